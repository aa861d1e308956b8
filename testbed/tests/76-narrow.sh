#!/usr/bin/env bash
# One client behind a narrow link: it gets all it asks for, and nobody else's segments become smaller,
# neither of the pair's own services nor through a relay, where a backend sees one peer for all.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/nginx.sh"
. "$here/lib/masked.sh"
. "$here/lib/far.sh"

clean_up() {
    give_up
    far_out
    nginx_end be1
    nginx_end be2
    rm -f "$LAB_FILES/narrow.bin"
}
trap clean_up EXIT

url() { # ADDRESS PORT
    local host=$1
    [[ $host != *:* ]] || host=[$host]
    echo "http://$host:$2/narrow.bin"
}

# Whole, and the same, before its sender's patience is tried.
fetched() { # far|client ADDRESS PORT
    "$1" curl --silent --show-error --fail --max-time 8 --output "$SCENE/narrow.got" \
        "$(url "$2" "$3")" && cmp "$LAB_FILES/narrow.bin" "$SCENE/narrow.got"
}

# The router has said so, or the rest of this says nothing.
router_spoke() { # BEFORE
    (($(too_big) > $1))
}
too_big() {
    client cat /proc/net/snmp /proc/net/snmp6 | awk '
        /^Icmp:/ { if (!column) { for (i = 2; i <= NF; i++) if ($i == "OutDestUnreachs") column = i } else sum += $column }
        /^Icmp6OutPktTooBigs/ { sum += $2 }
        END { print sum + 0 }'
}

# What a client of the LAN may be sent: 1500 less the headers and timestamps.
segments_are_whole() { # ADDRESS PORT
    local least=1448
    [[ $1 != *:* ]] || least=1428
    client timeout 5 python3 -c '
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
least, most = int(sys.argv[3]), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
sys.exit("segments of %d" % most if most < least else 0)
' "$1" "$2" "$least"
}

# backend_knows_nothing HOST: no path to the service address is narrow there.
backend_knows_nothing() {
    local address said
    for address in "$SERVICE4" "$SERVICE6"; do
        said=$("$LAB" exec "si-$1" ip route get "$address")
        [[ $said != *" mtu "* ]] || { say "$1: $said"; return 1; }
    done
}

"$DRILL" make-file "$LAB_FILES/narrow.bin" --bytes 4MiB --seed 8
nginx_begin be1
nginx_begin be2
pair_ready
wait_until 10 "both backends to be up" servers_up 8080
far_in
for address in "$SERVICE4" "$SERVICE6"; do
    for port in 80 8080; do
        before=$(too_big)
        # As many as there are backends.
        check "$address:$port: a client behind a narrow link is served" fetched far "$address" "$port"
        check "$address:$port: and another of it" fetched far "$address" "$port"
        check "$address:$port: its router has told of it" router_spoke "$before"
        check "$address:$port: others get whole segments" segments_are_whole "$address" "$port"
        check "$address:$port: and another of them" segments_are_whole "$address" "$port"
    done
done
for host in be1 be2; do
    check "backend $host has not heard of it" backend_knows_nothing "$host"
done
