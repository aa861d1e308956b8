#!/usr/bin/env bash
# More journalled requests at once than the memory budget has room for: they wait where they are, all of them
# are answered, and both nodes keep to the budget.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/nginx.sh"
. "$here/lib/masked.sh"
. "$here/lib/crowd.sh"

COUNT=${JOURNALS_COUNT:-1000}
KIB=1000 # of each: with its head it is just kept
SECONDS_MAX=${JOURNALS_SECONDS:-60}
BUDGET=256                        # MiB, the default of [limits] memory
BESIDE=128                        # what an engine may take beside it, as in 58-crowds.sh

clean_up() {
    give_up
    crowds_end
    nginx_end be1
    nginx_end be2
    rm -rf "$LAB_FILES/up"
}
trap clean_up EXIT

# stored: how many of the files have come, whole.
stored() { find "$LAB_FILES/up" -maxdepth 1 -type f -size "$((KIB * 1024))c" | wc -l; }

answered() { # NAME
    local word count all=0
    while read -r word count; do
        [[ $word == ready ]] && continue
        say "$word: $count"
        [[ $word == 20[14] ]] && all=$((all + count))
    done < "$CROWD-$1.txt"
    ((all == COUNT))
}

nginx_begin be1
nginx_begin be2
pair_ready
wait_until 10 "both servers to be up" servers_up 8083
pair_ready
keep_watch
crowd puts puts "$SERVICE4" "$COUNT" "$KIB" "$SECONDS_MAX"
crowd_ends || true
check "$COUNT long requests to a journal: all are answered" answered puts
check "$COUNT long requests to a journal: all are stored" test "$(stored)" == "$COUNT"
check "$COUNT long requests to a journal: both nodes keep to the budget" stayed_below "$((BUDGET + BESIDE))"
check "$COUNT long requests to a journal: nobody was reset for memory" \
    test "$(engine_status "$("$LAB" primary)" | field memory_short)" == 0
watch_end
check "the pair recovers" pair_ready
