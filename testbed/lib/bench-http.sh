# shellcheck shell=bash
# http and setup: requests for small files, with wrk. Sourced after bench-servers.sh.

# size:name of the file
HTTP_FILES=("1 kB:1k.bin:1024" "64 kB:64k.bin:65536")

http() {
    section http "HTTP/1.1, keep-alive"
    panel requests "requests/s" higher kernel
    compare requests duplex simplex
    panel latency "µs" lower kernel log
    compare latency duplex haproxy
    small_files
    serve_all
    rounds "$1" everyone http_of
    report
}

small_files() {
    local file size name bytes
    for file in "${HTTP_FILES[@]}"; do
        IFS=: read -r size name bytes <<< "$file"
        "$DRILL" make-file "$LAB_FILES/$name" --bytes "$bytes" --seed 2
    done
}

http_of() { # WHO
    local file size name bytes connections
    for file in "${HTTP_FILES[@]}"; do
        IFS=: read -r size name bytes <<< "$file"
        for connections in 32 256; do
            asked "$1" "$name" "$connections"
            sample requests "$size, $connections connections" "$1" "$(wrk_rate)"
        done
        asked "$1" "$name" 1
        sample latency "$size, median" "$1" "$(wrk_latency 50%)"
        sample latency "$size, 99th percentile" "$1" "$(wrk_latency 99%)"
    done
}

setup() {
    section setup "Connections set up, used for one request of 1 kB, and closed"
    panel connections "connections/s" higher kernel
    compare connections duplex simplex
    small_files
    serve_all
    rounds "$1" everyone setup_of
    report
}

setup_of() { # WHO
    local connections
    for connections in 32 256; do
        asked "$1" 1k.bin "$connections" --header "Connection: close"
        sample connections "$connections at a time" "$1" "$(wrk_rate)"
    done
}

# asked WHO FILE CONNECTIONS WRK-OPTION…: what wrk says is in $SCENE/wrk.out.
asked() {
    local who=$1 name=$2 connections=$3
    shift 3
    client wrk --threads 1 --connections "$connections" --duration "${SECONDS_EACH}s" --latency \
        "$@" "http://$(web_of "$who")/$name" > "$SCENE/wrk.out" ||
        die "wrk: $(cat "$SCENE/wrk.out")"
    if grep -qE 'Socket errors|Non-2xx' "$SCENE/wrk.out"; then
        die "$who, $name, $connections connections: $(grep -E 'Socket errors|Non-2xx' "$SCENE/wrk.out")"
    fi
}

wrk_rate() { awk '/^Requests\/sec:/ { print $2; found = 1 } END { exit !found }' "$SCENE/wrk.out"; }

# wrk_latency 50%|99%: in microseconds.
wrk_latency() {
    awk -v line="$1" '$1 == line {
        factor = $2 ~ /us$/ ? 1 : $2 ~ /ms$/ ? 1000 : 1000000
        print $2 * factor; found = 1 } END { exit !found }' "$SCENE/wrk.out"
}
