# shellcheck shell=bash
# Namespaces, links and addresses of the lab. Sourced by lab.
#
#   si-client ─┐                       ┌─ si-be1
#   si-a ──────┼── bridge br0 in si-sw ┼─ si-be2       each host has eth0 on the LAN
#   si-b ──────┘                       └
#   si-a repl0 ═══════════════ repl0 si-b              one veth pair
#
# Which links are down follows from marks in the state directory, set by cut and poweroff:
#
#   cut-NODE-lan    the switch's end of NODE's LAN link is down: NODE sees its carrier go,
#                   everybody else sees NODE gone
#   cut-NODE-repl   the peer's end of the replication link is down: NODE sees its carrier go,
#                   the peer has an interface that is down
#   off-NODE        both, and NODE's own end of the replication link: the peer sees its carrier go

declare -A LAST=([si-client]=10 [si-a]=1 [si-b]=2 [si-be1]=21 [si-be2]=22)
HOSTS=(si-client si-a si-b si-be1 si-be2)

in_ns() { local ns=$1; shift; ip netns exec "$ns" "$@"; }
ns_exists() { [[ -e /run/netns/$1 ]]; }
link_exists() { ip -n "$1" link show dev "$2" &> /dev/null; }
peer_of() { if [[ $1 == a ]]; then echo b; else echo a; fi; }

net_up() {
    make_ns si-sw
    in_ns si-sw sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    if ! link_exists si-sw br0; then
        ip -n si-sw link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    fi
    ip -n si-sw link set br0 up
    local host
    for host in "${HOSTS[@]}"; do
        make_ns "$host"
        lan_link "$host"
    done
    replication_link
    apply_links
    wait_until 10 "the links to be ready" links_ready
}

make_ns() {
    if ! ns_exists "$1"; then
        ip netns add "$1"
    fi
    # No address here is ever another's, and waiting for that to be found out takes a second.
    in_ns "$1" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
        net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 \
        net.ipv6.conf.default.keep_addr_on_down=1 net.ipv6.conf.all.keep_addr_on_down=1
    ip -n "$1" link set lo up
}

lan_link() { # HOST
    local port=${1#si-} last=${LAST[$1]}
    if ! link_exists "$1" eth0; then
        ip -n si-sw link del dev "$port" 2> /dev/null || true
        ip link add eth0 netns "$1" address "02:77:00:00:00:$(printf %02d "$last")" \
            type veth peer name "$port" netns si-sw
    fi
    ip -n si-sw link set dev "$port" master br0
    ip -n "$1" link set eth0 up
    ip -n "$1" address replace "10.77.0.$last/24" dev eth0
    ip -n "$1" address replace "fd77::$last/64" dev eth0 nodad
}

replication_link() {
    if ! link_exists si-a repl0 || ! link_exists si-b repl0; then
        ip -n si-a link del dev repl0 2> /dev/null || true
        ip -n si-b link del dev repl0 2> /dev/null || true
        ip link add repl0 netns si-a address 02:78:00:00:00:01 \
            type veth peer name repl0 netns si-b address 02:78:00:00:00:02
    fi
    ip -n si-a address replace 10.78.0.1/24 dev repl0
    ip -n si-b address replace 10.78.0.2/24 dev repl0
}

marked() { [[ -e $LAB_STATE/$1 ]]; }
mark() { : > "$LAB_STATE/$1"; }
unmark() { rm -f "$LAB_STATE/$1"; }

lan_state() { if marked "cut-$1-lan" || marked "off-$1"; then echo down; else echo up; fi; }
repl_state() {
    if marked "cut-$(peer_of "$1")-repl" || marked "off-$1"; then echo down; else echo up; fi
}

# Brings every link into the state that the marks say, at once.
apply_links() {
    local host node jobs=()
    {
        for host in "${HOSTS[@]}"; do
            echo "link set dev ${host#si-} $(lan_state "${host#si-}")"
        done
    } | ip -n si-sw -batch - &
    jobs+=($!)
    for node in a b; do
        ip -n "si-$node" link set dev repl0 "$(repl_state "$node")" &
        jobs+=($!)
    done
    local job failed=0
    for job in "${jobs[@]}"; do
        wait "$job" || failed=1
    done
    ((failed == 0)) || die "cannot set the links"
}

# A link that should be up has a carrier, and the bridge forwards from it.
links_ready() {
    local host node
    for host in "${HOSTS[@]}"; do
        [[ $(lan_state "${host#si-}") == up ]] || continue
        [[ $(ip -n "$host" -o link show dev eth0) == *LOWER_UP* ]] || return 1
        # shellcheck disable=SC2016 # the other shell expands it
        [[ $(ip -n si-sw -d -o link show dev "${host#si-}") == *"state forwarding"* ]] || return 1
    done
    for node in a b; do
        [[ $(repl_state a) == up && $(repl_state b) == up ]] || continue
        [[ $(ip -n "si-$node" -o link show dev repl0) == *LOWER_UP* ]] || return 1
    done
}

# A host that lost its power has forgotten its connections. Where the kernel cannot close them
# from outside, they are left to time out.
forget_host() { # NODE
    in_ns "si-$1" ss -K state connected > /dev/null 2>&1 || true
    ip -n "si-$1" neigh flush all > /dev/null 2>&1 || true
}

net_down() {
    local ns failed=0
    for ns in "${HOSTS[@]}" si-sw; do
        ns_exists "$ns" || continue
        end_inhabitants "$ns"
        ip netns delete "$ns" || failed=1
    done
    return "$failed"
}

inhabitants() { # NS: how many processes live there; fails at none
    [[ -n $(ip netns pids "$1" 2> /dev/null) ]]
}
deserted() { ! inhabitants "$1"; }

# Whatever still runs in a namespace of the lab goes with it: it came there for the lab's sake.
end_inhabitants() {
    local pid signal
    for signal in TERM KILL; do
        deserted "$1" && return 0
        for pid in $(ip netns pids "$1"); do
            [[ $pid == "$$" ]] || kill -"$signal" "$pid" 2> /dev/null || true
        done
        wait_until 2 "$1 to be empty" deserted "$1" 2> /dev/null && return 0
    done
    say "lab: something still runs in $1: $(ip netns pids "$1" | tr '\n' ' ')"
}
