# shellcheck shell=bash
# failover: what clients see of a takeover. Sourced after bench.sh.

failover() {
    section failover "Longest time without progress around a takeover"
    panel gap ms spread -
    panel crowd "ms, of $CROWD saturating downloads" spread -
    rounds "$1" both_faults
    rounds "$((($1 + 9) / 10))" crowd_killed
    report
}

# So many downloads, none of which is ever done, for so long; and when the primary dies.
CROWD=1000 CROWD_LASTS=16s CROWD_KILLED_AFTER=7

# Each download's longest time without a byte, from its beginning to its end: half of them wait no
# longer than the median, and one in a hundred longer than the 99th percentile.
crowd_killed() {
    local old name
    old=$("$LAB" primary)
    ulimit -n 20000
    begin crowd chargen "$SERVICE4" -n "$CROWD" --duration "$CROWD_LASTS" --ramp 3s --stall 20s
    sleep "$CROWD_KILLED_AFTER"
    "$LAB" kill "$old"
    await crowd || die "kill: of $CROWD downloads some were lost"
    for name in p50 p99 max; do
        sample crowd "kill, $name" duplex "$(crowd_gap "$name")"
    done
    "$LAB" start "$old"
    "$LAB" wait duplex 30
}

crowd_gap() { # p50|p99|max: of all downloads' longest gaps, in milliseconds
    sed -n '/"total"/,/"workloads"/p' "$SCENE/crowd.json" | sed -n '/"gap_ms"/,/}/p' | field "$1"
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
