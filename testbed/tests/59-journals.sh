#!/usr/bin/env bash
# More journalled requests at once than the memory budget has room for: they wait where they are, all of them
# are answered, and both nodes keep to the budget; also when the primary dies in the middle.
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

CLIENTS=${JOURNALS_CLIENTS:-1000}
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

# more_stored_than COUNT
more_stored_than() { (($(stored) > $1)); }

# stored: how many of the files have come, whole.
stored() { find "$LAB_FILES/up" -maxdepth 1 -type f -size "$((KIB * 1024))c" | wc -l; }

answered() { # NAME
    local word count all=0
    while read -r word count; do
        [[ $word == ready ]] && continue
        say "$word: $count"
        [[ $word == 20[14] ]] && all=$((all + count))
    done < "$CROWD-$1.txt"
    ((all == CLIENTS))
}

nginx_begin be1
nginx_begin be2
pair_ready
for fault in none kill; do
    wait_until 10 "both servers to be up" servers_up 8083
    pair_ready
    keep_watch
    rm -f "$LAB_FILES"/up/*
    old=$("$LAB" primary)
    crowd "puts-$fault" puts "$SERVICE4" "$CLIENTS" "$KIB" "$SECONDS_MAX"
    if [[ $fault == kill ]]; then
        wait_until 20 "some of them to be answered" more_stored_than 50
        "$LAB" kill "$old"
    fi
    crowd_ends || true
    check "$CLIENTS long requests to a journal, $fault: all are answered" answered "puts-$fault"
    check "$CLIENTS long requests to a journal, $fault: all are stored" test "$(stored)" == "$CLIENTS"
    if [[ $fault == none ]]; then
        check "$CLIENTS long requests to a journal: both nodes keep to the budget" stayed_below "$((BUDGET + BESIDE))"
        check "$CLIENTS long requests to a journal: nobody was reset for memory" \
            test "$(engine_status "$old" | field memory_short)" == 0
    else
        "$LAB" start "$old"
    fi
done
watch_end
check "the pair recovers" pair_ready
