#!/usr/bin/env bash
# Two Redis servers on the same input behind a relay with mode "mirror": either is killed, is stopped or
# answers otherwise, alone and with the primary; no reply is lost, repeated or wrong.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/masked.sh"
. "$here/lib/mirrored.sh"

declare -A ADDRESS=([4]="$SERVICE4" [6]="$SERVICE6")

clean_up() {
    give_up
    redis_signal be1 CONT
    redis_signal be2 CONT
    redis_end be1
    redis_end be2
}
trap clean_up EXIT

# count NAME FAMILY: eight clients that count, with eight commands under way each.
count() {
    rm -f "$SCENE/$1".{json,ready,out}
    client python3 "$here/lib/counter.py" "${ADDRESS[$2]}" "$MIRROR" 8 8 \
        "$SCENE/$1.ready" "$SCENE/$1.json" > "$SCENE/$1.out" 2>&1 < /dev/null &
    CLIENTS[$1]=$!
}

both_count() {
    count four 4
    count six 6
    ready four six
}

# stated NAME: what the primary says.
stated() { engine_status "$("$LAB" primary)" | field "$1"; }

is_stated() { [[ $(stated "$1") == "$2" ]]; }

# Both are empty, and both serve.
anew() {
    redis_end be1
    redis_end be2
    pair_ready && both_answer
}

# The primary fails: all go on, and both servers go through the same.
without_primary() { # FAULT
    anew && both_count || return 1
    check "mirror, $1: every client has two servers" is_stated mirrored 16
    sleep 0.3
    harm "$1" "$("$LAB" primary)" || return 1
    sleep 1
    check "mirror, $1: nobody has one" is_stated unmirrored 0
    check "mirror, $1: IPv4" finish four
    check "mirror, $1: IPv6" finish six
    check "mirror, $1: both servers hold the same" alike
}

# A server is killed, with the primary or without.
without_server() { # HOST FAULT
    local killing before
    anew && both_count || return 1
    before=$("$LAB" primary)
    sleep 0.3
    redis_end "$1" &
    killing=$!
    [[ $2 == none ]] || harm "$2" "$before" || return 1
    wait "$killing"
    rm -f "$REDIS/$1/pid"
    sleep 1
    check "mirror, $1 killed, $2: every client has one server" is_stated unmirrored 16
    check "mirror, $1 killed, $2: IPv4" finish four
    check "mirror, $1 killed, $2: IPv6" finish six
}

# One server is left: new clients are served, and mirrored when the other is back.
and_back() {
    anew && redis_end be1 || return 1
    both_count || return 1
    check "mirror, one server: new clients have that one" is_stated unmirrored 16
    check "mirror, one server: IPv4" finish four
    check "mirror, one server: IPv6" finish six
    # It has missed what they did: both begin anew.
    anew && both_count || return 1
    check "mirror, back: new clients have both" is_stated mirrored 16
    check "mirror, back: IPv4" finish four
    check "mirror, back: IPv6" finish six
    check "mirror, back: both servers hold the same" alike
}

# A server that stands still lags, and is waited for no longer than that.
stopped() {
    anew && both_count || return 1
    redis_signal be2 STOP
    check "mirror, be2 stopped: it lags" wait_until 8 "the sessions to go on" is_stated unmirrored 16
    sleep 0.5
    check "mirror, be2 stopped: IPv4" finish four
    check "mirror, be2 stopped: IPv6" finish six
    redis_signal be2 CONT
}

redis_through() { client redis-cli -h "$SERVICE4" -p "$MIRROR" "$@"; }

# says WHAT COMMAND…: whether that is what it prints.
says() {
    local what=$1 said
    shift
    said=$("$@")
    [[ $said == "$what" ]] || { say "'$said', not '$what'"; return 1; }
}

shown_barred() { engine_status "$1" | tr -d ' \n' | grep -q '"barred":true'; }

differing() {
    local before after
    anew || return 1
    check "mirror: a word through both" says 1 redis_through incr x
    # Behind the pair's back.
    redis_own be2 incr x > /dev/null
    check "mirror, they differ: the elder's word" says 2 redis_through incr x
    before=$("$LAB" primary)
    check "mirror, they differ: the younger is barred" shown_barred "$before"
    check "mirror, they differ: the standby knows" shown_barred "$(other "$before")"
    check "mirror, they differ: it is told" grep -q \
        'differ at byte 1 of a session: 10.77.0.21:8000 says "2' "$LAB_STATE/$before.log"
    "$LAB" kill "$before"
    after=$(other "$before")
    wait_until 10 "$after to be primary" is_primary "$after"
    check "mirror, they differ, primary killed: it stays barred" says 3 redis_through incr x
    check "mirror, they differ, primary killed: the other has heard nothing" says 3 redis_own be2 get x
    pair_ready || return 1
    check "mirror, they differ: a newcomer knows" shown_barred "$before"
    # Its state is the other one's again.
    redis_own be2 set x 3 > /dev/null
    check "mirror, it is admitted again" "$LAB" exec "si-$after" "$STANDIN" backend ready \
        10.77.0.22:8000 --config "$LAB_STATE/standin.toml" --node "$after"
    check "mirror, admitted: a word through both" says 4 redis_through incr x
    check "mirror, admitted: both hold it" says 4 redis_own be2 get x
    check "mirror, admitted: nobody is barred" not_barred
}

not_barred() { ! shown_barred a && ! shown_barred b; }

for fault in kill freeze poweroff switchover; do
    without_primary "$fault" || echo "not ok mirror, $fault: could not be tried"
    give_up
done
for host in be1 be2; do
    for fault in none kill freeze; do
        without_server "$host" "$fault" || echo "not ok mirror, $host and $fault: could not be tried"
        give_up
    done
done
and_back || echo "not ok mirror, back: could not be tried"
give_up
stopped || echo "not ok mirror, stopped: could not be tried"
give_up
differing || echo "not ok mirror, they differ: could not be tried"
check "the pair recovers" pair_ready
