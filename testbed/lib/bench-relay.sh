# shellcheck shell=bash
# relay: one and the same server (iperf3, nginx in si-be1), met directly, through HAProxy that joins
# two TCP connections, and through a relay of the pair. Sourced after bench-bulk.sh, bench-http.sh,
# bench-failover.sh.

RELAY_PORT=8090
KILLS=4 # in each round

# More of the lab's configuration. Nothing listens yet when the engines start, so nothing is checked.
relay_config() {
    local ports
    for ports in "5201 5201" "$RELAY_PORT 80"; do
        printf '[[service]]\nkind = "relay"\nport = %s\nbackends = ["%s:%s"]\n' \
            "${ports% *}" "$DIRECT" "${ports#* }"
        printf 'check = { interval = "0s" }\n\n'
    done
}

relay() {
    section relay "Through a relay to an unmodified server"
    panel throughput Gbit/s higher kernel
    panel requests "requests/s" higher kernel
    panel latency "µs" lower kernel log
    local name
    for name in throughput requests latency; do
        compare "$name" simplex haproxy
        compare "$name" duplex haproxy
        compare "$name" duplex simplex
    done
    panel gap ms spread -
    small_files
    "$DRILL" make-file "$LAB_FILES/bench.bin" --bytes 1GiB --seed 1
    serve_all
    rounds "$1" relay_round
    rm -f "$LAB_FILES/bench.bin"
    report
}

relay_round() {
    local at
    everyone relayed
    for ((at = 0; at < KILLS; at++)); do
        relay_killed
    done
}

relayed() { # WHO
    local way streams
    for streams in 1 8; do
        for way in down up; do
            sample throughput "${way}load, $streams" "$1" \
                "$(kernel "$way" "$streams" "$(address_of "$1")")"
        done
    done
    asked "$1" 1k.bin 32
    sample requests "1 kB, 32 connections" "$1" "$(wrk_rate)"
    asked "$1" 1k.bin 1
    sample latency "1 kB, 1 connection, median" "$1" "$(wrk_latency 50%)"
    sample latency "1 kB, 1 connection, 99th percentile" "$1" "$(wrk_latency 99%)"
}

# What a client sees of a kill: one that downloads as fast as it goes, and one that asks a little.
relay_killed() {
    local old name gap
    old=$("$LAB" primary)
    begin download files "$SERVICE4" --port "$RELAY_PORT" --path /bench.bin --seed-content 1 \
        --length 1GiB --duration 1h --stall 20s
    begin request files "$SERVICE4" --port "$RELAY_PORT" --path /1k.bin --seed-content 2 \
        --length 1KiB --duration 1h --rate 100KiB --stall 20s
    ready download request
    "$LAB" kill "$old"
    wait_until 10 "$(other "$old") to take over" is_primary "$(other "$old")"
    sleep 1 # what was lost is sent again after 200 ms, or twice or four times that
    for name in download request; do
        finish "$name" || die "the client '$name' was not served to its end"
        gap=$(max_gap "$name")
        # Who waited for nothing has no gap to tell.
        sample gap "kill, $name" duplex "${gap:-0}"
    done
    "$LAB" start "$old"
    "$LAB" wait duplex 30
}
