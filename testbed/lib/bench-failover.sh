# shellcheck shell=bash
# failover: what clients see of a takeover. Sourced after bench.sh.

failover() {
    section failover "Longest time without progress around a takeover"
    panel gap ms spread -
    rounds "$1" both_faults
    report
}

both_faults() {
    local fault
    for fault in kill poweroff; do
        takeover "$fault"
    done
}

takeover() { # FAULT
    local old
    old=$("$LAB" primary)
    # A download as fast as it goes, an upload and a conversation that leave it the machine.
    begin download chargen "$SERVICE4" --stall 20s
    begin upload discard "$SERVICE4" --rate 10MiB --stall 20s
    begin request echo "$SERVICE4" --think 1ms --stall 20s
    ready download upload request
    "$LAB" "$1" "$old"
    wait_until 10 "$(other "$old") to take over" is_primary "$(other "$old")"
    local name
    for name in download upload request; do
        finish "$name" || die "$1: the client '$name' was not served to its end"
        sample gap "$1, $name" duplex "$(max_gap "$name")"
    done
    "$LAB" start "$old"
    "$LAB" wait duplex 30
}

max_gap() { # NAME: the longest gap in a client's report, in milliseconds
    sed -n '/"longest"/,/\]/p' "$SCENE/$1.json" | field ms
}
