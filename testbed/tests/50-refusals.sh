#!/usr/bin/env bash
# What an engine refuses: it says what is wrong, exits with the right code, and leaves the pair and
# the host as they were.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/said.sh"

CONFIG=$LAB_STATE/standin.toml
CHANGED=$LAB_STATE/changed.toml

# with SED…: the configuration, changed. Node a of it shares nothing with the lab's that a second
# engine must not share.
with() {
    sed -e "s#\"$LAB_STATE/\([ab]\)#\"$LAB_STATE/other-\1#" \
        -e '/^control-socket/a tun = "standin9"' "$@" "$CONFIG" > "$CHANGED"
}

# said_by NODE TEXT COMMAND…: while the command runs, NODE's log gains TEXT.
said_by() {
    local node=$1 text=$2 before
    before=$(lines "$node")
    shift 2
    "$@" > "$SAID" 2>&1 < /dev/null || true
    logged "$node" "$text" "$before" && return
    say "node $node did not say '$text', but:"
    tail -n "+$((before + 1))" "$LAB_STATE/$node.log" >&2
    return 1
}

A=("$LAB" exec si-a "$STANDIN" run --node a --config)
B=("$LAB" exec si-b timeout 2 "$STANDIN" run --node b --config)

pair_ready
check "a second engine of the same node is refused" \
    refused 1 "another engine serves this control socket" "${A[@]}" "$CONFIG"
with -e 's/10\.77\.0\.100/10.77.0.109/; s/fd77::100/fd77::109/'
check "a taken port is refused" refused 1 "10.78.0.1:7701" "${A[@]}" "$CHANGED"
with
check "a service address of another engine on the host is refused" \
    refused 1 "is served by another engine on this host (standin0)" "${A[@]}" "$CHANGED"
with -e 's/eth0/eth9/'
check "an interface that does not exist yet is waited for, and named" \
    refused 124 "node a waits: there is no interface eth9 (lan-interface)" "${A[@]}" "$CHANGED"
with -e 's/^port = 19/prot = 19/'
check "an unknown key is refused with its place" \
    refused 2 "changed.toml:32:1: unknown field \`prot\`" "$STANDIN" check "$CHANGED"
with -e 's/^port = 19/port = 9/'
check "two services on one port are refused" \
    refused 2 "port 9 has a service already" "$STANDIN" check "$CHANGED"
check "a missing configuration is a usage error" \
    refused 2 "No such file" "$STANDIN" run --config "$LAB_STATE/none.toml" --node a

"$LAB" stop b
with -e 's/^port = 9$/port = 99/'
check "a peer with another configuration is told which part" \
    said_by a "the configurations differ in: services" "${B[@]}" "$CHANGED"
rm -f "$LAB_STATE/other.key"
"$STANDIN" key "$LAB_STATE/other.key" > /dev/null
with -e "s#^key-file.*#key-file = \"$LAB_STATE/other.key\"#"
check "a peer with another key is told so" \
    said_by a "the other end has another key" "${B[@]}" "$CHANGED"

"$LAB" stop a
"$LAB" exec si-be1 ip address add "$SERVICE4/24" dev eth0
check "an address that another host holds is refused" \
    refused 1 "answers for $SERVICE4" "${A[@]}" "$CONFIG"
"$LAB" exec si-be1 ip address delete "$SERVICE4/24" dev eth0
"$LAB" exec si-a ip address add "$SERVICE4/24" dev eth0
check "an address of the host itself is refused" \
    refused 1 "the engine must be its only owner" "${A[@]}" "$CONFIG"
"$LAB" exec si-a ip address delete "$SERVICE4/24" dev eth0
check "a process without rights is told which" refused 1 "needs CAP_NET_ADMIN" \
    "$LAB" exec si-a setpriv --bounding-set -net_admin,-net_raw --inh-caps -net_admin,-net_raw \
    "$STANDIN" run --config "$CONFIG" --node a
check "the pair recovers" pair_ready
routes() { "$LAB" exec si-a ip route show proto 83; }
"$LAB" stop a
"$LAB" stop b
check "an engine that stopped leaves no route" test -z "$(routes)"
check "an engine that stopped leaves no TUN" refused 1 "does not exist" \
    "$LAB" exec si-a ip link show standin0
check "an engine that stopped puts forwarding back" \
    refused 0 "0" "$LAB" exec si-a cat /proc/sys/net/ipv4/conf/eth0/forwarding
check "the pair starts again" pair_ready
# A closed or full log must not end an engine, nor hold it up.
"$LAB" stop a
# shellcheck disable=SC2016 # the inner shell expands it
"$LAB" exec si-a bash -c 'exec "$1" run --config "$2" --node a > /dev/full 2>&1' \
    full "$STANDIN" "$CONFIG" &
full=$!
check "an engine goes on with a full disk behind its log" "$LAB" wait duplex 20
"$LAB" exec si-a pkill -TERM -P "$full" 2> /dev/null || kill -TERM "$full" 2> /dev/null || true
wait "$full" || true
check "the pair is whole at the end" pair_ready
