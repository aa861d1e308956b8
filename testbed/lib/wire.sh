# shellcheck shell=bash
# A link with faults in front of the client. Sourced after paths.sh, common.sh; the lab is up.
#
#   si-client eth0 ─── client ═ standin-wire ═ wire0 ─── wire1 ─ br0        all but eth0 in si-sw
#
# Frames that pass are as a real wire would carry them: what the client and the bridge leave to
# their interfaces elsewhere in the lab, they do themselves here.

WIRE=$LAB_BIN/standin-wire
WIRE_READY=$LAB_STATE/wire.ready
WIRE_OUT=$LAB_STATE/wire.out

switch() { "$LAB" exec si-sw "$@"; }

# wire_in OPTION…: puts the wire between the client and the bridge, or one with other options.
wire_in() {
    wire_end
    if ! switch ip link show dev wire0 &> /dev/null; then
        switch ip link add wire0 type veth peer name wire1
    fi
    client ethtool -K eth0 tx off tso off gso off gro off > /dev/null
    switch ethtool -K wire1 tx off tso off gso off gro off > /dev/null
    switch ip link set dev client nomaster
    switch ip link set dev wire1 master br0
    switch ip link set dev wire0 up
    switch ip link set dev wire1 up
    rm -f "$WIRE_READY"
    switch "$WIRE" client wire0 "$@" --ready "$WIRE_READY" > "$WIRE_OUT" 2>&1 < /dev/null &
    wait_until 5 "the wire to be joined" test -s "$WIRE_READY" ||
        die "no wire: $(cat "$WIRE_OUT")"
    wait_until 5 "the wire to forward" wire_forwards
}

wire_forwards() {
    [[ $(switch ip -d -o link show dev wire1) == *"state forwarding"* ]]
}

# wire_end: the wire alone; its last words are in $WIRE_OUT.
wire_end() {
    [[ -s $WIRE_READY ]] || return 0
    switch kill -TERM "$(< "$WIRE_READY")" 2> /dev/null || true
    wait_until 5 "the wire to end" wire_ended
    rm -f "$WIRE_READY"
}

# By its id alone it could be another process by now.
wire_ended() { ! switch ps -o comm= -p "$(< "$WIRE_READY")" | grep -q standin-wire; }

# wire_out: as if there had been none.
wire_out() {
    wire_end
    switch ip link del dev wire0 2> /dev/null || true
    switch ip link set dev client master br0
    client ethtool -K eth0 tx on tso on gso on gro on > /dev/null || true
}
