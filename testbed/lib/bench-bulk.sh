# shellcheck shell=bash
# bulk: how fast bytes move, on one connection and on eight. Sourced after bench-servers.sh.
#
# Raw TCP: iperf3 against the kernel and through HAProxy, standin-drill (which checks every byte)
# against the pair. Files: curl against nginx, through HAProxy, against the pair.

bulk() {
    section bulk "Bulk transfer"
    panel throughput Gbit/s higher kernel
    compare throughput duplex simplex
    serve_all
    "$DRILL" make-file "$LAB_FILES/bench.bin" --bytes 1GiB --seed 1
    local who
    for who in kernel simplex; do
        curled "$who" 1 > /dev/null # the file's digest, and the page cache
    done
    rounds "$1" everyone bulk_of
    rm -f "$LAB_FILES/bench.bin"
    report
}

bulk_of() { # WHO
    local streams label
    for streams in 1 8; do
        label=$streams
        sample throughput "download, $label" "$1" "$(raw "$1" down "$streams")"
        sample throughput "upload, $label" "$1" "$(raw "$1" up "$streams")"
        sample throughput "file, $label" "$1" "$(curled "$1" "$streams")"
    done
}

# Each of these prints Gbit/s.
gbit() { awk -v bytes="$1" 'BEGIN { printf "%.6f\n", bytes * 8 / 1e9 }'; }

raw() { # WHO down|up STREAMS
    case $1:$2 in
        kernel:*) kernel "$2" "$3" ;;
        haproxy:*) kernel "$2" "$3" "$PROXY" ;;
        *:down) drilled chargen "$3" ;;
        *:up) drilled discard "$3" ;;
    esac
}

kernel() { # down|up [STREAMS [ADDRESS]]
    local reverse=()
    [[ $1 == up ]] || reverse=(--reverse)
    # Both ends are told: a machine's default may be another.
    client iperf3 --client "${3:-$DIRECT}" --time "$SECONDS_EACH" --json --congestion cubic \
        --parallel "${2:-1}" "${reverse[@]}" > "$SCENE/iperf3.json" ||
        die "iperf3: $(field error < "$SCENE/iperf3.json")"
    sed -n '/"sum_received"/,$p' "$SCENE/iperf3.json" | field bits_per_second |
        awk '{ printf "%.6f\n", $1 / 1e9 } END { exit NR != 1 }' ||
        die "iperf3 did not measure: $(head -c 300 "$SCENE/iperf3.json")"
}

drilled() { # SERVICE [STREAMS]
    client "$DRILL" "$1" "$SERVICE4" -n "${2:-1}" --duration "${SECONDS_EACH}s" \
        --json "$SCENE/rate.json" > "$SCENE/rate.out" || { cat "$SCENE/rate.out" >&2; return 1; }
    gbit "$(sed -n '/"total"/,/}/p' "$SCENE/rate.json" | field bytes_per_s)"
}

# Gibibytes that every machine can keep in memory: four after another, or eight at a time.
curled() { # WHO STREAMS
    local url files=() at count=$(($2 == 1 ? 4 : $2)) parallel=()
    url=http://$(address_of "$1")/bench.bin
    for ((at = 0; at < count; at++)); do
        files+=(--output /dev/null "$url")
    done
    (($2 == 1)) || parallel=(--no-progress-meter --parallel --parallel-immediate --parallel-max "$2")
    local began ended
    began=$(now_ms)
    client curl --silent --show-error --fail "${parallel[@]}" "${files[@]}"
    ended=$(now_ms)
    gbit "$((count * 1073741824 * 1000 / (ended - began)))"
}
