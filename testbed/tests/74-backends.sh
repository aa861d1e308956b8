#!/usr/bin/env bash
# Operators empty servers behind relays while clients use them: nothing new comes to one that drains, what it
# has finishes, or is cut off, and no takeover forgets what was said.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/nginx.sh"
. "$here/lib/masked.sh"

SPLICE=8080 REPLAY=8082 ASKED=8090
declare -A ADDRESS=([be1]=10.77.0.21:80 [be2]=10.77.0.22:80)

clean_up() {
    give_up
    nginx_end be1
    nginx_end be2
    rm -rf "$LAB_FILES"/backends.{bin,txt} "$LAB_FILES/up" "$NGINX"/be?/sick
}
trap clean_up EXIT

# configure [FILE]: both engines run with FILE behind the lab's configuration.
configure() {
    local node
    for node in a b; do
        "$LAB" stop "$node"
    done
    LAB_EXTRA=${1:-$LAB_EXTRA} "$LAB" up
    pair_ready
}

# backend ACTION HOST [OPTION…]: said to the primary, or to NODE.
backend() {
    local action=$1 host=$2
    shift 2
    "$STANDIN" backend "$action" "${ADDRESS[$host]}" "$@" \
        --config "$(config_file)" --node "${NODE:-$("$LAB" primary)}" 2>&1
}

# said NODE PORT HOST: what that node says of a backend.
said() {
    "$STANDIN" status --config "$(config_file)" --node "$1" |
        grep -F "port $2, address ${ADDRESS[$3]},"
}

is_said() { said "$1" "$2" "$3" | grep -qF "$4"; }

other_host() { if [[ $1 == be1 ]]; then echo be2; else echo be1; fi; }

who() { client curl --silent --show-error --max-time 5 "http://$SERVICE4:$1/who"; }

# all_answered PORT HOST: new clients come to it, and to no other.
all_answered() {
    local count
    for count in 1 2 3 4; do
        [[ $(who "$1") == "$2" ]] || { say "client $count: not $2"; return 1; }
    done
}

connections() { "$LAB" exec "si-$1" ss -Htn state established 'sport = 80' | wc -l; }
has_connections() { [[ $(connections "$1") == "$2" ]]; } # HOST COUNT
has_at_least() { (($(connections "$1") >= $2)); }         # HOST COUNT

download() { # NAME PORT RATE
    begin "$1" files "$SERVICE4" --port "$2" --path /backends.bin --seed-content 5 \
        --length 16MiB --bytes 16MiB --rate "$3" --stall 10s
}

converse() { # NAME PORT [OPTION…]: connections with one small request every 20 ms
    local name=$1 port=$2
    shift 2
    begin "$name" files "$SERVICE4" --port "$port" --path /backends.txt --seed-content 6 \
        --length 1KiB --duration 1h --rate 50KiB --stall 5s "$@"
}

# A server is emptied under a long download, which is waited for; what cannot be waited for is told.
drains() {
    local host begun took
    download down "$SPLICE" 4MiB
    ready down || return 1
    host=$(serving) || return 1
    begun=$(now_ms)
    backend drain "$host" --relay "$SPLICE" > /dev/null || return 1
    check "drain: new clients go to the other server" all_answered "$SPLICE" "$(other_host "$host")"
    check "drain --wait --timeout: it says what is left" grep -q 'still has 1 splice, 0 sessions' \
        <(backend drain "$host" --relay "$SPLICE" --wait --timeout 300ms)
    check "drain --wait --timeout: it fails" fails_with 1 backend drain "$host" --relay "$SPLICE" \
        --wait --timeout 300ms
    check "drain --wait: nothing is left" grep -q "nothing is left on ${ADDRESS[$host]}" \
        <(backend drain "$host" --relay "$SPLICE" --wait --timeout 20s)
    took=$(($(now_ms) - begun))
    check "drain --wait: the download is whole" await down
    check "drain --wait: it took as long as the download ($took ms)" test "$took" -gt 2000
    backend ready "$host" > /dev/null
    check "ready: it gets clients" wait_until 5 "$host to answer" answers "$SPLICE" "$host"
}

answers() { [[ $(who "$1") == "$2" ]]; }

fails_with() { # CODE COMMAND…
    local wanted=$1 code=0
    shift
    "$@" > "$SCENE/fails" 2>&1 || code=$?
    [[ $code == "$wanted" ]] || { say "exit code $code"; cat "$SCENE/fails" >&2; return 1; }
}

# A client of one long connection goes to the other server between two of its requests.
leaves() {
    local host
    converse talk "$REPLAY"
    ready talk || return 1
    host=$(serving) || return 1
    check "replay, drain --wait: the session leaves its server" \
        backend drain "$host" --relay "$REPLAY" --wait --timeout 5s
    check "replay, drain: it is with the other one" wait_until 3 "the other one to have it" \
        has_connections "$(other_host "$host")" 1
    check "replay, drain: the conversation goes on" finish talk
    backend ready "$host" --relay "$REPLAY" > /dev/null
}

# Nobody looks after a server in maintenance, which may be changed meanwhile.
maintenance() {
    backend maint be1 > /dev/null
    nginx_end be1
    sleep 2.5
    check "maint: it is not checked" is_said "$("$LAB" primary)" "$SPLICE" be1 'state maint, weight 1, up true'
    check "maint: clients go to the other server" all_answered "$SPLICE" be2
    backend ready be1 > /dev/null
    check "ready: it is checked" wait_until 5 "be1 to be down" \
        is_said "$("$LAB" primary)" "$SPLICE" be1 'state ready, weight 1, up false'
    nginx_begin be1
    wait_until 10 "both servers to be up" servers_up "$SPLICE" "$REPLAY"
}

# Connections that have just ended count for a minute, so the shares are not exact.
weights() {
    local host
    for host in be2 be1; do
        backend weight "$host" 256 --relay "$SPLICE" > /dev/null
        converse many "$SPLICE" -n 16
        ready many || return 1
        check "weight 256: $host has nearly all clients" has_at_least "$host" 12
        check "weight 256: conversations go on" finish many
        backend weight "$host" 1 --relay "$SPLICE" > /dev/null
    done
    backend weight be1 0 --relay "$SPLICE" > /dev/null
    check "weight 0: no clients" all_answered "$SPLICE" be2
    backend weight be1 1 --relay "$SPLICE" > /dev/null
}

# What was said outlives two takeovers, the second one to a node that was told as a newcomer.
remembered() {
    local first second node
    first=$("$LAB" primary)
    second=$(other "$first")
    backend drain be1 --relay "$SPLICE" > /dev/null
    backend weight be2 9 --relay "$SPLICE" > /dev/null
    check "the standby knows" is_said "$second" "$SPLICE" be1 'state drain, weight 1'
    check "the standby is not the one to ask" grep -q "Ask node $first, on its host" \
        <(NODE=$second backend ready be1)
    "$LAB" kill "$first"
    wait_until 10 "$second to be primary" is_primary "$second"
    check "takeover: new clients stay away from it" all_answered "$SPLICE" be2
    "$LAB" start "$first"
    "$LAB" wait duplex 20
    for node in a b; do
        check "reintegration: $node knows the state" is_said "$node" "$SPLICE" be1 'state drain, weight 1'
        check "reintegration: $node knows the weight" is_said "$node" "$SPLICE" be2 'state ready, weight 9'
    done
    "$LAB" kill "$second"
    wait_until 10 "$first to be primary" is_primary "$first"
    check "second takeover: new clients stay away from it" all_answered "$SPLICE" be2
    backend weight be2 1 --relay "$SPLICE" > /dev/null
    check "ready: the answer says that there is no standby" grep -q 'there is no standby' \
        <(backend ready be1 --relay "$SPLICE")
    pair_ready
}

# What is cut off ends where nothing masks it, and only there.
cut_off() {
    local host
    download down "$SPLICE" 4MiB
    ready down || return 1
    host=$(serving) || return 1
    check "maint --cut --wait, splice: nothing is left" \
        backend maint "$host" --relay "$SPLICE" --cut --wait --timeout 5s
    check "maint --cut, splice: the client is told at once" fails_with 1 await down
    check "maint --cut, splice: the server is told" wait_until 3 "$host to be empty" has_connections "$host" 0
    backend ready "$host" > /dev/null
    download down "$REPLAY" 4MiB
    ready down || return 1
    host=$(serving) || return 1
    check "maint --cut --wait, replay: nothing is left" \
        backend maint "$host" --relay "$REPLAY" --cut --wait --timeout 5s
    check "maint --cut, replay: the other server goes on with the reply" await down
    backend ready "$host" > /dev/null
}

# A server's host falls silent: its clients hear of it, and not only from their own timers.
dies() {
    local host begun took
    download down "$SPLICE" 2MiB
    ready down || return 1
    host=$(serving) || return 1
    begun=$(now_ms)
    "$LAB" exec si-sw ip link set dev "$host" down
    check "on-death cut: the client is told" fails_with 1 await down
    took=$(($(now_ms) - begun))
    check "on-death cut: as soon as checks have found nobody three times ($took ms)" test "$took" -lt 5000
    check "on-death cut: the log says so" log_says "$("$LAB" primary)" \
        "relay $SPLICE: nobody is at backend ${ADDRESS[$host]} any more: 1 connection to it ends"
    "$LAB" exec si-sw ip link set dev "$host" up
    wait_until 10 "both servers to be up" servers_up "$SPLICE" "$REPLAY"
}

log_says() { grep -qF "$2" "$(log_file "$1")"; } # NODE WORDS

# Whether a server is well, by its own word.
health() {
    local node why='answered 503, 200-399 is wanted' pid
    node=$("$LAB" primary)
    wait_until 10 "both to be up" servers_up_at "$ASKED" || return 1
    touch "$NGINX/be1/sick"
    check "HTTP check: a server that says 503 is down" wait_until 5 "be1 to be down" \
        is_said "$node" "$ASKED" be1 "up false"
    check "HTTP check: the status says why" is_said "$node" "$ASKED" be1 "last_failure $why"
    check "HTTP check: so does the log" log_says "$node" "relay $ASKED: backend ${ADDRESS[be1]} is down: $why"
    check "HTTP check: new clients go to the other server" all_answered "$ASKED" be2
    check "HTTP check: who is not asked is up" is_said "$node" "$SPLICE" be1 "up true"
    check "HTTP check: the standby knows why" is_said "$(other "$node")" "$ASKED" be1 "last_failure $why"
    "$LAB" kill "$node"
    wait_until 10 "a takeover" is_primary "$(other "$node")"
    check "HTTP check, takeover: new clients stay away from it" all_answered "$ASKED" be2
    pair_ready
    node=$("$LAB" primary)
    rm "$NGINX/be1/sick"
    check "HTTP check: a server that is well again is up" wait_until 5 "be1 to be up" \
        is_said "$node" "$ASKED" be1 "up true"
    pid=$(< "$NGINX/be1/pid")
    kill -STOP "$pid"
    check "HTTP check: a server that hangs is down" wait_until 5 "be1 to be down" \
        is_said "$node" "$ASKED" be1 "last_failure took the connection, and no reply in 300 ms"
    check "TCP check: it does not see that" is_said "$node" "$SPLICE" be1 "up true"
    kill -CONT "$pid"
    check "HTTP check: a server that goes on is up" wait_until 5 "be1 to be up" \
        is_said "$node" "$ASKED" be1 "up true"
}

# Both servers are up at a relay of one family.
servers_up_at() {
    local host
    for host in be1 be2; do
        is_said "$("$LAB" primary)" "$1" "$host" "up true, known true" || return 1
    done
}

cat ${LAB_EXTRA:+"$LAB_EXTRA"} - > "$SCENE/extra.toml" << END
[[service]]
kind = "relay"
port = $ASKED
backends = ["${ADDRESS[be1]}", "${ADDRESS[be2]}"]
check = { http = "/health", interval = "500ms", timeout = "300ms", rise = 1, fall = 2 }
END
"$DRILL" make-file "$LAB_FILES/backends.bin" --bytes 16MiB --seed 5
"$DRILL" make-file "$LAB_FILES/backends.txt" --bytes 1KiB --seed 6
nginx_begin be1
nginx_begin be2
configure "$SCENE/extra.toml"
wait_until 10 "both servers to be up" servers_up "$SPLICE" "$REPLAY"
check "an unknown backend is refused" fails_with 1 "$STANDIN" backend drain 10.77.0.99:80 \
    --config "$(config_file)" --node "$("$LAB" primary)"
check "a weight beyond the largest is refused" fails_with 2 backend weight be1 257
for part in drains leaves maintenance weights remembered cut_off dies health; do
    "$part" || echo "not ok $part: could not be tried"
    give_up
done
check "the pair recovers" configure
