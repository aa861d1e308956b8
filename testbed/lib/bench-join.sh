# shellcheck shell=bash
# join: one web server (nginx in si-be1), met directly, through HAProxy as it joins connections and as it
# reads HTTP, and through relays that join, replay and keep a journal, in duplex. And the gap of a server's
# death in the middle of a reply. Sourced after bench-relay.sh, masked.sh.

declare -A JOIN_PORTS=([join]=8091 [replay]=8092 [journal]=8093)
MASKED_PORT=8094
JOIN_SERIES=(direct haproxy-tcp haproxy-http join replay journal)

# More of the lab's configuration. Nothing listens yet when the engines start, so those are not checked.
join_config() {
    local mode
    for mode in join replay journal; do
        printf '[[service]]\nkind = "relay"\nport = %s\nmode = "%s"\nbackends = ["%s:80"]\n' \
            "${JOIN_PORTS[$mode]}" "$mode" "$DIRECT"
        printf 'check = { interval = "0s" }\n\n'
    done
    printf '[[service]]\nkind = "relay"\nport = %s\nmode = "replay"\nbackends = [%s]\n' \
        "$MASKED_PORT" "$(backends 80)"
    printf 'check = { interval = "100ms", timeout = "100ms" }\n'
}

join() {
    section join "Through connections that end at the pair, in duplex"
    panel throughput Gbit/s higher direct
    panel requests "requests/s" higher direct
    panel latency "µs" lower direct log
    panel connections "connections/s" higher direct
    panel cpu "µs a request" lower haproxy-http
    local name
    for name in throughput requests latency connections; do
        compare "$name" join haproxy-tcp
        compare "$name" replay haproxy-http
        compare "$name" journal haproxy-http
    done
    panel gap ms spread -
    small_files
    "$DRILL" make-file "$LAB_FILES/bench.bin" --bytes 1GiB --seed 1
    serve_all
    rounds "$1" join_round
    rm -f "$LAB_FILES/bench.bin"
    report
}

join_round() {
    local who kills
    for who in "${JOIN_SERIES[@]}"; do
        joined "$who"
    done
    end_server si-be2 "$SERVERS/haproxy.pid"
    wait_until 5 "haproxy to end" not_listens si-be2 80
    nginx_begin be2
    wait_until 10 "both servers to be up" servers_up "$MASKED_PORT"
    for ((kills = 0; kills < 10; kills++)); do
        server_killed
    done
    nginx_end be2
    serve_haproxy
}

joined() { # WHO
    asked "$1" 1k.bin 32
    sample requests "1 kB, 32 connections" "$1" "$(wrk_rate)"
    sample cpu "1 kB, 32 connections" "$1" "$(cpu_each "$1")"
    asked "$1" 1k.bin 256
    sample requests "1 kB, 256 connections" "$1" "$(wrk_rate)"
    asked "$1" 1k.bin 1
    sample latency "1 kB, 1 connection, median" "$1" "$(wrk_latency 50%)"
    sample latency "1 kB, 1 connection, 99th percentile" "$1" "$(wrk_latency 99%)"
    asked "$1" 1k.bin 32 --header "Connection: close"
    sample connections "1 kB, 32 at a time" "$1" "$(wrk_rate)"
    sample throughput "1 GiB" "$1" "$(fetched "$1")"
}

# cpu_each WHO: what the process in the middle takes for a request at this rate, for a second.
cpu_each() {
    local pid before after rate
    case $1 in
        direct) echo 0; return ;;
        haproxy*) pid=$(cat "$SERVERS/haproxy.pid") ;;
        *) pid=$(engine_pid "$("$LAB" primary)") ;;
    esac
    rate=$(wrk_rate)
    before=$(cpu_ticks "$pid")
    client wrk --threads 1 --connections 32 --duration 2s "http://$(web_of "$1")/1k.bin" > /dev/null
    after=$(cpu_ticks "$pid")
    awk -v ticks="$((after - before))" -v hz="$(getconf CLK_TCK)" -v rate="$rate" \
        'BEGIN { printf "%.2f", ticks / hz * 1e6 / (rate * 2) }'
}

cpu_ticks() {
    local stat
    stat=$(< "/proc/$1/stat")
    # shellcheck disable=SC2086 # into words, please
    set -- ${stat##*) }
    echo "$((${12} + ${13}))"
}

# fetched WHO: Gbit/s of one download.
fetched() {
    client curl --silent --fail --output /dev/null -w '%{speed_download}' "http://$(web_of "$1")/bench.bin" |
        awk '{ printf "%.3f", $1 * 8 / 1e9 }'
}

not_listens() { ! listens "$@"; }

# What a client sees when the server of its reply dies: one that downloads as fast as it goes.
server_killed() {
    local host gap
    begin download files "$SERVICE4" --port "$MASKED_PORT" --path /bench.bin --seed-content 1 \
        --length 1GiB --bytes 1GiB --stall 20s
    ready download
    sleep "0.$((RANDOM % 400 + 100))"
    if host=$(serving); then
        nginx_end "$host" KILL
        nginx_begin "$host"
    fi
    await download || die "the client was not served to its end"
    gap=$(max_gap download)
    sample gap "server killed in mid-reply" replay "${gap:-0}"
    wait_until 10 "both servers to be up" servers_up "$MASKED_PORT"
}
