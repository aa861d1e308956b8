# shellcheck shell=bash
# A client behind a router whose other link is narrow. Sourced after scene.sh; the lab is up.
#
#   far ─ 1500 ══ 1280 ─ si-client, which forwards ─ eth0 ─ LAN
#
# Its own interface promises 1500: only the router knows better, and says so by ICMP.

FAR=
FAR_JOB=

# far COMMAND…: runs it there.
far() { client nsenter --net="/proc/$FAR/ns/net" "$@"; }

far_in() {
    local node
    # shellcheck disable=SC2016 # the inner shell expands it
    client unshare --net bash -c 'echo $$ > "$1"; exec sleep 120' far "$SCENE/far.pid" &
    FAR_JOB=$!
    wait_until 5 "the far client's namespace" test -s "$SCENE/far.pid"
    FAR=$(< "$SCENE/far.pid")
    client ip link add far0 mtu 1280 type veth peer name eth0 netns "$FAR"
    client ip address add 10.88.0.1/24 dev far0
    client ip address add fd88::1/64 dev far0 nodad
    client ip link set far0 up
    client sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    far ip link set eth0 mtu 1500 up
    far ip address add 10.88.0.2/24 dev eth0
    far ip address add fd88::2/64 dev eth0 nodad
    far ip route add default via 10.88.0.1
    far ip route add default via fd88::1
    for node in a b; do
        "$LAB" exec "si-$node" ip route replace 10.88.0.0/24 via 10.77.0.10
        "$LAB" exec "si-$node" ip route replace fd88::/64 via fd77::10
    done
}

# far_out: as if there had been none. Its namespace ends with its only process.
far_out() {
    local node
    [[ -n $FAR ]] || return 0
    client kill -KILL "$FAR" 2> /dev/null || true
    wait "$FAR_JOB" 2> /dev/null || true
    FAR=
    client ip link del dev far0 2> /dev/null || true
    rm -f "$SCENE/far.pid"
    client sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 || true
    for node in a b; do
        "$LAB" exec "si-$node" ip route del 10.88.0.0/24 2> /dev/null || true
        "$LAB" exec "si-$node" ip route del fd88::/64 2> /dev/null || true
    done
}
