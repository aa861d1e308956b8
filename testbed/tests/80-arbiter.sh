#!/usr/bin/env bash
# With an arbiter (etcd): both networks between the nodes fail while both live, and one speaks; the
# arbiter fails, and a pair in duplex goes on; a primary dies, and is replaced as ever.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/sniff.sh"

ETCD=10.77.0.22:2379
WORK=$LAB_STATE/arbiter
PID=$WORK/etcd.pid

etcd_begin() {
    # shellcheck disable=SC2016 # the inner shell expands it
    "$LAB" exec si-be2 sh -c 'echo $$ > "$1"; shift; exec "$@"' etcd "$PID" etcd \
        --name arbiter --data-dir "$WORK/data" --logger zap --log-level warn \
        --listen-client-urls "http://$ETCD" --advertise-client-urls "http://$ETCD" \
        --listen-peer-urls http://127.0.0.1:2380 \
        --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster arbiter=http://127.0.0.1:2380 >> "$WORK/etcd.log" 2>&1 < /dev/null &
    ETCD_JOB=$!
    wait_until 20 "etcd to answer" etcdctl endpoint health
}

# At once, as a host's death would.
etcd_end() {
    if [[ -s $PID ]]; then
        "$LAB" exec si-be2 kill -KILL "$(< "$PID")" 2> /dev/null || true
        wait "$ETCD_JOB" 2> /dev/null || true
        rm -f "$PID"
    fi
}

etcdctl() {
    "$LAB" exec si-be2 env ETCDCTL_API=3 etcdctl --endpoints "http://$ETCD" "$@" > /dev/null 2>&1
}

# configure [FILE]: both engines anew, with FILE appended to their configuration.
configure() {
    local node
    for node in a b; do
        "$LAB" stop "$node"
    done
    LAB_EXTRA=${1:-$LAB_EXTRA} "$LAB" up
    pair_ready
}

policy() { # LOST
    cat ${LAB_EXTRA:+"$LAB_EXTRA"} - > "$WORK/extra.toml" << END
[arbiter]
kind = "etcd"
endpoints = ["http://$ETCD"]
lost = "$1"
lease = "2s"
$([[ $1 == table ]] || echo 'timeout = "200ms"')
END
    configure "$WORK/extra.toml"
}

# Enough to see a wrong byte, and not so much that the engines starve.
traffic() {
    begin busy mixed "$SERVICE4" "$SERVICE6" -n 40 --rate 256KiB --think 5ms --stall 30s
    ready busy
}

# The nodes do not reach each other any more, on either network. Clients, the arbiter and both
# nodes' carriers notice nothing.
estrange() {
    local node
    "$LAB" cut a repl
    for node in a b; do
        "$LAB" exec si-sw ip link set dev "$node" type bridge_slave isolated on
    done
}

reconcile() {
    local node
    for node in a b; do
        "$LAB" exec si-sw ip link set dev "$node" type bridge_slave isolated off
    done
    "$LAB" heal a
}

status() { # NODE
    timeout 5 "$LAB" exec "si-$1" "$STANDIN" status --json --config "$LAB_STATE/standin.toml" \
        --node "$1"
}

says() { status "$1" | grep -qE "\"$2\": $3"; } # NODE FIELD VALUE, which may be a pattern

speaks_for_the_address() { # NODE
    echo "ether src $(mac_of "$1") and (src host $SERVICE4 or src host $SERVICE6 \
        or (arp and arp[14:4] = 0x0a4d0064))"
}

# Which of the two was granted the address to speak alone: the standby, unless it was starved.
granted() {
    local node
    for node in a b; do
        if says "$node" granted_ms "[0-9]"; then
            echo "$node"
            return
        fi
    done
    return 1
}

is_granted() { granted > "$SCENE/granted.txt"; }

one_speaks() {
    local new
    traffic
    estrange
    check "both networks cut: one is granted the address" \
        wait_until 10 "one to speak alone" is_granted
    new=$(< "$SCENE/granted.txt")
    sniff_begin estranged "$(speaks_for_the_address "$(other "$new")")"
    # As long as a grant lasts, and more.
    sleep 4
    sniff_end
    check "both networks cut: the other is silent" test "$(sniff_count estranged)" = 0
    check "both networks cut: the one still speaks" says "$new" granted_ms "[0-9]"
    reconcile
    check "both networks back: the other returns as standby" \
        "$LAB" wait standby "$(other "$new")" 15
    check "both networks back: the pair is duplex again" "$LAB" wait duplex 30
    check "both networks cut: connections go on, every byte right" finish busy
}

outage() {
    local old new
    old=$("$LAB" primary)
    new=$(other "$old")
    traffic
    etcd_end
    check "arbiter lost: it is reported" wait_until 10 "$old to notice" says "$old" answers false
    check "arbiter lost: nothing is called protected" \
        wait_until 10 "$old to say so" says "$old" protected false
    check "arbiter lost: a switchover is refused" refuses_switchover "$old"
    # Longer than any grant: duplex needs none.
    sleep 4
    check "arbiter lost: the primary stays" says "$old" role '"primary"'
    check "arbiter lost: the pair stays in duplex" says "$old" synced true
    "$LAB" kill "$old"
    sleep 2
    check "arbiter lost, primary dead: nobody owns without its word" says "$new" role '"standby"'
    etcd_begin
    check "arbiter back: the standby takes over" wait_until 10 "$new to own" is_primary "$new"
    check "arbiter back: connections go on, every byte right" finish busy
}

refuses_switchover() { ! harm switchover "$1" 2> "$SCENE/switchover.txt" && grep -q arbiter "$SCENE/switchover.txt"; }

death() {
    local old
    pair_ready
    old=$("$LAB" primary)
    wait_until 10 "the arbiter to answer" says "$old" answers true
    traffic
    "$LAB" kill "$old"
    check "primary dead: the arbiter grants the address" \
        wait_until 10 "the standby to own" is_primary "$(other "$old")"
    check "primary dead: connections go on, every byte right" finish busy
    sed 's/^/     /' "$SCENE/busy.out" | tail -n 12 >&2
}

table() {
    local old
    policy table
    old=$("$LAB" primary)
    traffic
    etcd_end
    wait_until 10 "$old to notice" says "$old" answers false
    check "arbiter lost, policy table: still protected" says "$old" protected true
    "$LAB" kill "$old"
    check "arbiter lost, policy table: the standby takes over" \
        wait_until 10 "the standby to own" is_primary "$(other "$old")"
    check "arbiter lost, policy table: connections go on, every byte right" finish busy
}

leave() {
    give_up
    sniff_end
    reconcile || true
    etcd_end
    rm -rf "$WORK"
}

rm -rf "$WORK"
mkdir -p "$WORK"
trap leave EXIT
etcd_begin
policy stop
one_speaks
outage
death
table
configure
