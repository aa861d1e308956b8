# shellcheck shell=bash
# Very many clients in the lab. Sourced after scene.sh; the lab is up.
#
#   standin-swarm ═ swarm0 ─ the kernel of si-client forwards ─ eth0 ─ LAN
#
# Their network lies behind si-client, as behind a router, and the two hosts know the way.

SWARM=$LAB_BIN/standin-swarm
SWARM_NET=10.99.0.0/24

# swarm_in: the device, and the ways to and from it. A second time changes nothing.
swarm_in() {
    local node
    if ! client ip link show dev swarm0 &> /dev/null; then
        client ip tuntap add dev swarm0 mode tun
    fi
    # A takeover speaks to all of them at once.
    client ip link set dev swarm0 up txqueuelen 100000
    client ip route replace "$SWARM_NET" dev swarm0
    client sysctl -qw net.ipv4.ip_forward=1
    for node in a b; do
        "$LAB" exec "si-$node" ip route replace "$SWARM_NET" via 10.77.0.10
    done
}

# swarm_out: as if there had been none.
swarm_out() {
    local node
    client ip link del dev swarm0 2> /dev/null || true
    client sysctl -qw net.ipv4.ip_forward=0 || true
    for node in a b; do
        "$LAB" exec "si-$node" ip route del "$SWARM_NET" 2> /dev/null || true
    done
}

# swarm NAME OPTION…: begins one, as `begin` does a drill; `finish NAME` ends it in order.
swarm() {
    local name=$1
    shift
    launch "$name" "$SWARM" "$SERVICE4" --sources "$SWARM_NET" "$@"
}

# swarm_ready NAME SECONDS: waits until every connection of it is open.
swarm_ready() {
    wait_until "$2" "the swarm $1 to be open" ready_or_dead "$1" && [[ -s $SCENE/$1.ready ]]
}
