#!/usr/bin/env bash
# What others change on a host behind the engine's back: put back, followed, or told, on the primary
# and on the standby.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/said.sh"

on() { local node=$1; shift; "$LAB" exec "si-$node" "$@"; }
setting() { local node=$1; shift; on "$node" sysctl -qw "$@"; }
status_of() { on "$1" "$STANDIN" status --json --config "$LAB_STATE/standin.toml" --node "$1" 2> /dev/null; }
protected() { status_of "$1" > "$SAID" && grep -qE '"protected": ?true' "$SAID"; }
exposed() { status_of "$1" > "$SAID" && grep -qE '"protected": ?false' "$SAID"; }
number_of_primary() { "$LAB" primary 2> /dev/null || true; }

# put_back NODE TEXT COMMAND…: the log says that it was put back, clients are served, and by the same node.
put_back() {
    local node=$1 text=$2 before primary
    before=$(lines "$node")
    primary=$(number_of_primary)
    shift 2
    "$@" || return 1
    wait_until 4 "the log to say '$text'" logged "$node" "$text" "$before" || return 1
    wait_until 4 "clients to be served" served || return 1
    wait_until 10 "the pair to be protected" protected "$primary" || return 1
    [[ $(number_of_primary) == "$primary" ]] || { say "the address has moved"; return 1; }
}

# exposes NODE TEXT HARM REPAIR: a standby that is harmed is no protection, and both logs say why.
exposes() {
    local node=$1 text=$2 harm=$3 repair=$4 before peer before_peer
    peer=$(other "$node")
    before=$(lines "$node") before_peer=$(lines "$peer")
    eval "$harm" || return 1
    wait_until 8 "the pair to be exposed" exposed "$peer" || return 1
    wait_until 2 "node $node to say '$text'" logged "$node" "$text" "$before" || return 1
    wait_until 2 "node $peer to say '$text'" logged "$peer" "$text" "$before_peer" || return 1
    eval "$repair" || return 1
    wait_until 15 "the pair to be protected" protected "$peer"
}

# handed_over NODE HARM REPAIR: a primary that is harmed gives the address to its standby.
handed_over() {
    local node=$1 harm=$2 repair=$3 peer ok=0
    peer=$(other "$node")
    eval "$harm" || return 1
    wait_until 8 "node $peer to own" is_primary "$peer" && wait_until 4 "clients to be served" served || ok=1
    eval "$repair" || return 1
    wait_until 15 "the pair to be protected" protected "$peer" && return "$ok"
}

drop_forwarded() {
    on "$1" nft -f - << 'END'
table inet hostile {
    chain forward { type filter hook forward priority 0; policy drop; }
}
END
}

pair_ready
p=$(number_of_primary)
s=$(other "$p")
check "the host route is put back" \
    put_back "$p" "put back: the route to $SERVICE4" on "$p" ip route del "$SERVICE4" dev standin0
check "the TUN is taken up again" put_back "$p" "put back: the TUN device" on "$p" ip link set standin0 down
check "the standby's TUN is taken up again" \
    put_back "$s" "put back: the TUN device" on "$s" ip link set standin0 down
check "IPv6 of the TUN is switched on again" \
    put_back "$p" "put back: net.ipv6.conf.standin0.disable_ipv6=0" setting "$p" net.ipv6.conf.standin0.disable_ipv6=1
check "forwarding is switched on again" \
    put_back "$p" "put back: net.ipv4.conf.eth0.forwarding=1" \
        setting "$p" net.ipv4.ip_forward=1 net.ipv4.ip_forward=0
check "IPv6 forwarding is switched on again" \
    put_back "$p" "put back: net.ipv6.conf.all.forwarding=1" setting "$p" net.ipv6.conf.all.forwarding=0
flush_rules() { on "$1" ip -6 rule flush && on "$1" ip -6 rule add priority 32766 table main; }
check "policy rules are put back" put_back "$p" "put back: the rule for $SERVICE6" flush_rules "$p"
check "rp_filter on all does no harm" put_back "$p" "put back: net.ipv4.conf.standin0.rp_filter=0" \
    setting "$p" net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.standin0.rp_filter=1
setting "$p" net.ipv4.conf.all.rp_filter=0

# shellcheck disable=SC2089,SC2090 # evaluated
{
check "a standby that has the service address is told of" exposes "$s" "is on interface repl0" \
    "on $s ip address add $SERVICE4/32 dev repl0" "on $s ip address del $SERVICE4/32 dev repl0"
check "a standby without its IPv6 address is told of" exposes "$s" "lost its IPv6 address" \
    "on $s ip -6 address flush dev eth0 scope global" "on $s ip address add fd77::$([[ $s == a ]] && echo 1 || echo 2)/64 dev eth0 nodad"
check "a standby without IPv6 is told of" exposes "$s" "IPv6 is disabled on this host (net.ipv6.conf.eth0.disable_ipv6=1)" \
    "setting $s net.ipv6.conf.eth0.disable_ipv6=1" \
    "setting $s net.ipv6.conf.eth0.disable_ipv6=0 && on $s ip address add fd77::$([[ $s == a ]] && echo 1 || echo 2)/64 dev eth0 nodad"
if on "$s" nft list tables &> /dev/null; then
    check "a standby whose firewall drops what it would forward is told of" exposes "$s" "look for a firewall" \
        "drop_forwarded $s" "on $s nft delete table inet hostile"
fi
check "a primary whose kernel gets the service address hands over" handed_over "$p" \
    "on $p ip address add $SERVICE4/32 dev repl0" "on $p ip address del $SERVICE4/32 dev repl0"
}

# The LAN interface is followed.
p=$(number_of_primary)
number=$([[ $p == a ]] && echo 1 || echo 2)
begin before echo "$SERVICE4" --rate 64KiB
ready before
check "a new MAC address is announced at once" put_back "$p" "MAC address 02:77:00:00:00:f$number" \
    on "$p" ip link set dev eth0 address "02:77:00:00:00:f$number"
check "the connection of before goes on" finish before
rename() {
    on "$1" bash -c 'ip link set eth0 down && ip link set eth0 name lan0 && ip link set lan0 up' &&
        on "$1" ip address replace "fd77::$2/64" dev lan0 nodad
}
back() {
    on "$1" bash -c 'ip link set lan0 down && ip link set lan0 name eth0 && ip link set eth0 up' &&
        on "$1" ip address replace "fd77::$2/64" dev eth0 nodad
}
s=$(other "$p")
snumber=$([[ $s == a ]] && echo 1 || echo 2)
check "a renamed interface is followed" put_back "$s" "is called lan0 now" rename "$s" "$snumber"
check "and its name of before" put_back "$s" "is called eth0 now" back "$s" "$snumber"
# The lab makes what is missing.
anew() { on "$1" ip link del dev eth0 && "$LAB" up; }
check "an interface that is made anew is followed" put_back "$s" "is there again" anew "$s"
harm switchover "$p"
wait_until 5 "node $s to own" is_primary "$s"
check "and the address is served on it" wait_until 5 "clients to be served" served
check "the pair is whole again" wait_until 20 "the pair to be protected" protected "$s"
