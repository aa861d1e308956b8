# shellcheck shell=bash
# idle: what very many idle connections cost. Sourced after bench-http.sh, swarm.sh.

IDLE_COUNTS=(10 1000 100000)
declare -A IDLE_NAMES=([10]="10 idle" [1000]="1,000 idle" [100000]="100,000 idle")
# Of a crowd under which the primary is killed, so many ask every 100 ms.
IDLE_ASKING=500

idle() {
    section idle "Beside idle connections"
    panel memory "bytes per idle connection" lower -
    panel requests "requests/s, 1 kB, 32 connections" higher "10 idle"
    panel cost "µs of the primary's CPU per packet" lower "10 idle"
    panel takeover "ms, longest wait of those who ask" lower "10 idle"
    small_files
    swarm_in
    rounds "$1" idle_round
    swarm_out
    report
}

idle_round() {
    local count
    for count in "${IDLE_COUNTS[@]}"; do
        # What an allocator keeps of the last crowd would hide the next.
        fresh_pair
        idle_under "$count"
        idle_killed "$count"
    done
}

fresh_pair() {
    "$LAB" stop a
    "$LAB" stop b
    "$LAB" start
    "$LAB" wait duplex 30
}

idle_under() { # COUNT
    local before after role
    before=$(resident_of primary standby)
    swarm crowd -n "$1"
    swarm_ready crowd 60 || die "the crowd of $1 did not open: $(cat "$SCENE/crowd.out")"
    "$LAB" wait duplex 30
    # Each of them has been told of at least once, and the last answers are in.
    sleep 1
    after=$(resident_of primary standby)
    if (($1 >= 100000)); then
        for role in primary standby; do
            sample memory "$role" "${IDLE_NAMES[$1]}" \
                "$(bytes_each "$role" "$before" "$after" "$1")"
        done
    fi
    IDLE=$1
    both_modes idle_asked
    finish crowd || die "of $1 idle connections some were lost"
}

idle_asked() { # MODE
    local began ended node
    node=$("$LAB" primary)
    began=$(spent_by "$node")
    asked "$1" 1k.bin 32
    ended=$(spent_by "$node")
    sample requests "$1" "${IDLE_NAMES[$IDLE]}" "$(wrk_rate)"
    sample cost "$1" "${IDLE_NAMES[$IDLE]}" "$(awk -v b="$began" -v e="$ended" 'BEGIN {
        split(b, before); split(e, after)
        print (after[1] - before[1]) / (after[2] - before[2]) }')"
}

idle_killed() { # COUNT
    local old asking=$(($1 < IDLE_ASKING ? $1 : IDLE_ASKING)) what
    swarm crowd -n "$1" --asking "$asking" --every 100ms
    swarm_ready crowd 60 || die "the crowd of $1 did not open: $(cat "$SCENE/crowd.out")"
    "$LAB" wait duplex 30
    sleep 1
    old=$("$LAB" primary)
    "$LAB" kill "$old"
    wait_until 10 "$(other "$old") to take over" is_primary "$(other "$old")"
    sleep 3
    finish crowd || die "of $1 connections some were lost with the primary"
    for what in p50 p99 max; do
        sample takeover "$what" "${IDLE_NAMES[$1]}" "$(swarm_gap "$what")"
    done
    "$LAB" start "$old"
    "$LAB" wait duplex 30
}

swarm_gap() { # p50|p99|max
    sed -n '/"gap_ms"/,/}/p' "$SCENE/crowd.json" | field "$1"
}

# of_engine NODE FILE: what the kernel says of its process.
of_engine() {
    local pid
    read -r pid _ < "$(pid_file "$1")"
    "$LAB" exec "si-$1" cat "/proc/$pid/$2"
}

# resident_of primary standby: bytes of each, in this order.
resident_of() {
    local primary node
    primary=$("$LAB" primary)
    for node in "$primary" "$(other "$primary")"; do
        of_engine "$node" status | awk '/^VmRSS:/ { printf "%d ", $2 * 1024 }'
    done
}

bytes_each() { # primary|standby BEFORE AFTER COUNT
    awk -v role="$1" -v b="$2" -v a="$3" -v count="$4" 'BEGIN {
        split(b, before); split(a, after)
        at = role == "primary" ? 1 : 2
        printf "%.0f", (after[at] - before[at]) / count }'
}

# spent_by NODE: microseconds of CPU, and packets in and out, since its start.
spent_by() {
    local stat status
    stat=$(of_engine "$1" stat)
    status=$("$LAB" exec "si-$1" "$STANDIN" status --json --config "$(config_file)" --node "$1")
    # The name, in parentheses, may hold anything; utime and stime are the 12th and 13th behind it.
    # shellcheck disable=SC2086 # into words, please
    set -- ${stat##*) }
    echo "$(((${12} + ${13}) * 1000000 / $(getconf CLK_TCK)))" \
        "$(($(field packets_in <<< "$status") + $(field packets_out <<< "$status")))"
}
