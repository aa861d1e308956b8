#!/usr/bin/env bash
# Servers that die behind a relay with mode "replay" or "journal", while the primary lives, or dies with
# them: a client's reply goes on at the byte, and nothing is carried out twice that must not be.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/nginx.sh"
. "$here/lib/masked.sh"

declare -A PORTS=([replay]=8082 [journal]=8083) ADDRESS=([4]="$SERVICE4" [6]="$SERVICE6")
TOLD=$SCENE/told

clean_up() {
    give_up
    nginx_end be1
    nginx_end be2
    tellers_end
    rm -rf "$LAB_FILES"/masked.{bin,txt} "$LAB_FILES/up"
}
trap clean_up EXIT

url() { if [[ $2 == 4 ]]; then echo "http://$SERVICE4:$1"; else echo "http://[$SERVICE6]:$1"; fi; }

# counted NAME: what the primary has counted.
counted() { engine_status "$("$LAB" primary)" | field "$1"; }

download() { # NAME PORT FAMILY BYTES RATE
    begin "$1" files "${ADDRESS[$3]}" --port "$2" --path /masked.bin --seed-content 5 \
        --length 32MiB --bytes "$4" --rate "$5" --stall 20s
}

# both_serve: nginx runs on both, and the pair knows it.
both_serve() {
    local host
    for host in be1 be2; do
        [[ -e $NGINX/$host/pid ]] || nginx_begin "$host"
    done
    wait_until 10 "both backends to be up" servers_up 8082 8083
}

# A download at whose middle its server dies; with it, if asked, the primary. It is so long that the server
# cannot have handed all of it to its kernel by then.
mid_reply() { # MODE FAMILY FAULT
    local mode=$1 family=$2 fault=$3 host old before killing
    pair_ready && both_serve || return 1
    old=$("$LAB" primary)
    before=$(counted requests_continued)
    download down "${PORTS[$mode]}" "$family" 32MiB 16MiB
    ready down || return 1
    sleep 0.5
    host=$(serving) || { say "nobody serves"; return 1; }
    nginx_end "$host" KILL &
    killing=$!
    [[ $fault == none ]] || harm "$fault" "$old" || return 1
    wait "$killing"
    check "$mode, IPv$family, server and $fault: download" await down
    if [[ $fault == none ]]; then
        check "$mode, IPv$family: it is counted" test "$(counted requests_continued)" -gt "$before"
    fi
    rm -f "$NGINX/$host/pid"
}

# Small requests on one connection, while either server dies and comes back in turns.
in_turns() { # MODE
    local mode=$1 host
    pair_ready && both_serve || return 1
    begin talk4 files "$SERVICE4" --port "${PORTS[$mode]}" --path /masked.txt --seed-content 6 \
        --length 1KiB --duration 1h --rate 50KiB --stall 5s
    begin talk6 files "$SERVICE6" --port "${PORTS[$mode]}" --path /masked.txt --seed-content 6 \
        --length 1KiB --duration 1h --rate 50KiB --stall 5s
    ready talk4 talk6 || return 1
    for host in be1 be2 be1 be2 be1 be2; do
        nginx_end "$host" KILL
        sleep 0.4
        both_serve || return 1
    done
    check "$mode: six servers die, IPv4 conversation" finish talk4
    check "$mode: six servers die, IPv6 conversation" finish talk6
}

# get PORT PATH [OPTION…]: status code, and body.
get() {
    local port=$1 path=$2
    shift 2
    client curl --silent --max-time 20 -w ' %{http_code}' "$@" "$(url "$port" 4)$path"
}

tellers_begin() {
    local host
    rm -f "$TOLD"
    for host in be1 be2; do
        "$LAB" exec "si-$host" python3 "$here/lib/teller.py" "$host" 80 "$TOLD" \
            > "$SCENE/teller.$host.out" 2>&1 < /dev/null &
        wait_until 5 "a server in $host" listens "si-$host" 80
    done
    wait_until 10 "both backends to be up" servers_up 8082 8083
}

teller_end() { # HOST
    local pid
    pid=$(cat "$TOLD.$1.pid" 2> /dev/null) || return 0
    "$LAB" exec "si-$1" kill -KILL "$pid" 2> /dev/null || true
    rm -f "$TOLD.$1.pid"
}

tellers_end() { teller_end be1; teller_end be2; }

lines_are() { [[ $(wc -l < "$TOLD") == "$1" ]]; }

# A server dies that has a request and has not answered.
unanswered() { # MODE METHOD LINES CODE [OPTION…]
    local mode=$1 method=$2 lines=$3 code=$4 first asking
    shift 4
    tellers_begin
    get "${PORTS[$mode]}" "/x?wait=2" -X "$method" --data hello "$@" > "$SCENE/answer" &
    asking=$!
    wait_until 5 "a server to have it" test -s "$TOLD"
    first=$(cut -d' ' -f1 "$TOLD")
    teller_end "$first"
    wait "$asking" || true
    check "$mode, $method $*: $code" grep -q " $code\$" "$SCENE/answer"
    check "$mode, $method $*: $lines servers had it" lines_are "$lines"
    tellers_end
}

# The primary dies while a server works on a request: it is not carried out again.
once() { # MODE
    local mode=$1 old asking
    pair_ready
    tellers_begin
    old=$("$LAB" primary)
    get "${PORTS[$mode]}" "/x?wait=2" -X POST --data hello > "$SCENE/answer" &
    asking=$!
    wait_until 5 "a server to have it" test -s "$TOLD"
    "$LAB" kill "$old"
    wait "$asking" || true
    check "$mode, primary killed: the answer comes" grep -q ' 200$' "$SCENE/answer"
    check "$mode, primary killed: one server had it, once" lines_are 1
    tellers_end
}

"$DRILL" make-file "$LAB_FILES/masked.bin" --bytes 32MiB --seed 5
"$DRILL" make-file "$LAB_FILES/masked.txt" --bytes 1KiB --seed 6
for mode in replay journal; do
    for family in 4 6; do
        for fault in none kill freeze; do
            mid_reply "$mode" "$family" "$fault" ||
                echo "not ok $mode, IPv$family, server and $fault: could not be tried"
            give_up
        done
    done
    mid_reply "$mode" 4 switchover || echo "not ok $mode, server and switchover: could not be tried"
    give_up
    in_turns "$mode" || echo "not ok $mode: servers that die in turns: could not be tried"
    give_up
done
pair_ready
nginx_end be1
nginx_end be2
for mode in replay journal; do
    check "$mode, no server: 502" grep -q ' 502$' <(get "${PORTS[$mode]}" /who)
    unanswered "$mode" GET 2 200 -G
    unanswered "$mode" POST 1 502
    once "$mode"
    pair_ready
done
unanswered replay PUT 1 502
unanswered journal PUT 2 200
unanswered journal POST 2 200 -H 'Idempotency-Key: "7"'
check "the pair recovers" pair_ready
