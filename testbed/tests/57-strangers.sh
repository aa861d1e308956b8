#!/usr/bin/env bash
# What strangers try, on the LAN and as another user of a host: heartbeats of an earlier run, the port
# of the heartbeats, forged segments of a splice, a flood of SYNs, datagrams to nobody. Clients do not
# notice.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/said.sh"
. "$here/lib/nginx.sh"

BEATS=$SCENE/beats.pcap
STRANGER=

# stranger NS COMMAND…: an attack that goes on while the test does.
stranger() {
    "$LAB" exec "$1" python3 "$here/lib/attack.py" "${@:2}" > "$SCENE/stranger.txt" 2>&1 &
    STRANGER=$!
}

stranger_ends() {
    wait "$STRANGER" || { cat "$SCENE/stranger.txt" >&2; return 1; }
}

clean_up() {
    give_up
    nginx_end be1
    nginx_end be2
    rm -f "$LAB_FILES/strangers.txt"
}
trap clean_up EXIT

status_of() { engine_status "$1" | field "$2"; }

# What an owner says to its standby on the LAN.
record() { # OWNER
    "$LAB" exec "si-$(other "$1")" timeout 3 tcpdump -Z root -i eth0 -c 60 -w "$BEATS" \
        "src host 10.77.0.${LAST[si-$1]} and udp port 7702" 2> "$SCENE/record.txt" ||
        { cat "$SCENE/record.txt" >&2; return 1; }
}

# A survivor, alone, hears the owner of an earlier run again.
recordings() {
    local old survivor
    old=$("$LAB" primary)
    survivor=$(other "$old")
    check "heartbeats are recorded" record "$old"
    "$LAB" stop a
    "$LAB" stop b
    "$LAB" start "$survivor"
    wait_until 10 "$survivor to serve" served
    begin quiet mixed "$SERVICE4" "$SERVICE6" -n 12 --rate 64KiB --stall 500ms
    ready quiet
    stranger si-client replay "$BEATS" 3
    stranger_ends
    check "a lone survivor does not believe a recording" finish quiet
    "$LAB" stop "$survivor"
    stranger si-client replay "$BEATS" 4
    "$LAB" start "$survivor"
    check "nor does one that starts" wait_until 4 "$survivor to serve" served
    "$LAB" start "$old"
    check "and it finds its peer while it hears the recording" "$LAB" wait duplex 5
    stranger_ends
}

# intruder NODE: another user's process, which binds what it can and tells what it hears in a second.
intruder() {
    "$LAB" exec "si-$1" python3 -c '
import os, select, socket, sys
try:
    os.setuid(65534)
except OSError:
    pass # without root there is no second user, and the kernel asks for none
bound = []
for address in sys.argv[1:]:
    for options in ([], [socket.SO_REUSEADDR], [socket.SO_REUSEPORT], [socket.SO_REUSEADDR, socket.SO_REUSEPORT]):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in options:
            s.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            s.bind((address, 7702))
            bound.append(s)
        except OSError:
            pass
heard = [s.getsockname() for s in select.select(bound, [], [], 1)[0]]
sys.exit("beats went to %s" % heard if heard else 0)
' "10.77.0.${LAST[si-$1]}" "10.78.0.${LAST[si-$1]}" 0.0.0.0
}

intruders() {
    local node before
    for node in a b; do
        before=$(status_of "$node" takeovers)
        check "node $node's heartbeats go to no other process" intruder "$node"
        check "node $node still hears its peer" "$LAB" wait duplex 0
        check "nothing has moved" test "$(status_of "$node" takeovers)" = "$before"
    done
}

# The client's port of a connection to a port.
port_of() { client ss -Htn state established "dport = $1" | sed -E 's/.*:([0-9]+) +[^ ]+$/\1/' | head -n 1; }

# converse NAME: a connection through the relay, one small request every 20 ms.
converse() {
    begin "$1" files "$SERVICE4" --port 8080 --path /strangers.txt --seed-content 6 \
        --length 1KiB --duration 1h --rate 50KiB --stall 2s
}

forgeries() {
    local port
    converse victim
    ready victim
    port=$(port_of 8080)
    "$LAB" exec si-be2 python3 "$here/lib/attack.py" blind 10.77.0.10 "$port" "$SERVICE4" 8080
    "$LAB" exec si-be1 python3 "$here/lib/attack.py" blind 10.77.0.10 "$port" "$SERVICE4" 8080
    sleep 0.5
    check "768 forged segments, twice, leave a splice alone" finish victim
}

# Twenty new clients. Whoever has not shown yet that it is there shares a bounded place with the flood:
# some have to knock again, after one second or three.
most_served() {
    local count served=0 clients=()
    for count in {1..20}; do
        client curl --silent --fail --output /dev/null --max-time 3.8 \
            "http://$SERVICE4:8080/strangers.txt" &
        clients+=($!)
    done
    for count in "${clients[@]}"; do
        if wait "$count"; then served=$((served + 1)); fi
    done
    ((served >= 16)) || { say "$served of 20 were served"; return 1; }
    kill -0 "$STRANGER" 2> /dev/null || { say "the flood was over too soon"; return 1; }
}

# One backend has 64,512 ports, which is what the flood takes in three seconds.
flood() {
    nginx_end be2
    wait_until 5 "be2 to be down" grep -q "is down" <(tail -n 20 "$LAB_STATE/$("$LAB" primary).log")
    converse before
    ready before
    stranger si-client flood 10.77.0. "$SERVICE4" 8080 9
    sleep 4
    check "under a flood of SYNs new clients of a relay are served" most_served
    stranger_ends
    check "and one of before goes on" finish before
}

# The first fifty are answered at once, and then 1,000 a second.
refused_sparingly() { # ADDRESS
    local began answers most
    began=$(now_ms)
    answers=$(client python3 "$here/lib/attack.py" datagrams "$1" 5000)
    most=$((50 + $(now_ms) - began))
    ((answers > 0 && answers <= most)) || { say "$answers answers, expected at most $most"; return 1; }
}

"$DRILL" make-file "$LAB_FILES/strangers.txt" --bytes 1KiB --seed 6
nginx_begin be1
nginx_begin be2
pair_ready
recordings || echo "not ok recordings: could not be tried"
give_up
check "the pair recovers" pair_ready
intruders
forgeries || echo "not ok forgeries: could not be tried"
give_up
flood || echo "not ok flood: could not be tried"
for address in "$SERVICE4" "$SERVICE6"; do
    check "$address refuses a flood of datagrams sparingly" refused_sparingly "$address"
done
check "the pair is whole at the end" pair_ready
