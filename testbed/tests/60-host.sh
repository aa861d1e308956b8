#!/usr/bin/env bash
# The service address behaves as a host's does: it answers ping, also in fragments, refuses closed
# ports of TCP and UDP, and nobody sees that a kernel forwards: a TTL of 1 is served, and 255 arrives.
# The nodes are no routers for that.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"

pings() { client ping -q -n -c 3 -i 0.2 -W 2 "$@" > "$SCENE/ping.txt" || { cat "$SCENE/ping.txt" >&2; return 1; }; }

# A reset comes at once; silence would take the client's seven SYNs.
refuses() { # ADDRESS PORT
    local said
    # shellcheck disable=SC2016 # the inner shell expands it
    said=$(client timeout 3 bash -c 'exec 3<> "/dev/tcp/$1/$2"' connect "$@" 2>&1) && return 1
    grep -q "Connection refused" <<< "$said" || { say "$said"; return 1; }
}

# One echo session with a TTL, by a client that takes nothing with a lower one than LEAST.
python_client() { # ADDRESS PORT TTL LEAST
    client timeout 8 python3 -c '
import socket, sys
address, port, ttl, least = sys.argv[1], *map(int, sys.argv[2:])
six = ":" in address
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(*((41, 16) if six else (0, 2)), ttl)      # IPV6_UNICAST_HOPS, IP_TTL
s.setsockopt(*((41, 73) if six else (0, 21)), least)   # IPV6_MINHOPCOUNT, IP_MINTTL
s.settimeout(4)
s.connect((address, port))
for _ in range(3):
    s.sendall(b"x" * 3000)
    got = b""
    while len(got) < 3000:
        got += s.recv(3000) or sys.exit("end of stream")
' "$@"
}

# A backend that takes nothing but what a neighbour sends, and says nothing that looks otherwise.
gtsm_servers() {
    local host
    for host in be1 be2; do
        "$LAB" exec "si-$host" python3 -c '
import socket, threading
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.setsockopt(41, 26, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for option in ((41, 16), (0, 2), (41, 73), (0, 21)):
    s.setsockopt(*option, 255)
s.bind(("::", 80))
s.listen()
def serve(c):
    while data := c.recv(65536):
        c.sendall(data)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
' > "$SCENE/gtsm-$host.txt" 2>&1 &
        SERVERS+=($!)
    done
}

SERVERS=()
end_servers() {
    local pid
    for pid in "${SERVERS[@]}"; do
        pkill -KILL -P "$pid" 2> /dev/null || true
        kill -KILL "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    done
}
trap end_servers EXIT

# Port unreachable comes at once.
refuses_datagrams() { # ADDRESS
    client timeout 3 python3 -c '
import socket, sys
six = ":" in sys.argv[1]
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 53))
s.settimeout(1)
s.send(b"anybody?")
try:
    sys.exit("answered: %r" % s.recv(100))
except ConnectionRefusedError:
    pass
' "$1"
}

# The replication network through node a, which forwards for the service address.
no_way_through() {
    local code=0
    if [[ $("$LAB" exec si-a cat /proc/sys/net/ipv4/conf/all/forwarding) == 1 ]]; then
        say "node a is a router already; nothing to be seen"
        return
    fi
    client ip route add 10.78.0.2/32 via 10.77.0.1
    client ping -q -n -c 2 -i 0.2 -W 1 10.78.0.2 > "$SCENE/ping.txt" || code=$?
    client ip route del 10.78.0.2/32
    ((code == 1))
}

pair_ready
gtsm_servers
for address in "$SERVICE4" "$SERVICE6"; do
    check "$address answers ping" pings "$address"
    check "$address answers a ping of three fragments" pings -s 4000 "$address"
    check "$address answers a ping of the largest size" pings -s 65000 "$address"
    check "$address refuses a closed port" refuses "$address" 81
    check "$address refuses datagrams" refuses_datagrams "$address"
    check "$address serves a neighbour that sends with TTL 1" python_client "$address" 7 1 1
    check "$address sends what no router can have sent" python_client "$address" 7 255 255
    # Health checks see the servers, too, which serve neighbours alone.
    check "through a relay of $address neighbours see each other" \
        wait_until 10 "TTL security through a relay" python_client "$address" 8080 255 255
done
check "the LAN reaches no other network through a node" no_way_through
