# shellcheck shell=bash
# On what a figure was taken. Sourced after bench.sh.

# Ticks of all kinds, and those of them that the hypervisor gave to others; proc_stat(5).
ticks() { awk '/^cpu / { for (i = 2; i <= 9; i++) all += $i; print all, $9 }' /proc/stat; }

steal_begin() { TICKS=$(ticks); }

steal_share() {
    awk -v before="$TICKS" -v after="$(ticks)" 'BEGIN {
        split(before, b); split(after, a)
        all = a[1] - b[1]
        printf "%.1f %%", (all > 0 ? (a[2] - b[2]) * 100 / all : 0) }'
}

version_of() { # COMMAND…: the first thing in its output that looks like a version
    { "$@" 2>&1 || true; } | grep -oE '[0-9]+\.[0-9]+[0-9a-z.+~-]*' | head -n 1 || true
}

governor() {
    cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2> /dev/null || echo "none visible"
}

machine_lines() {
    line machine cpu "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
    line machine cores "$(nproc)"
    line machine memory "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    line machine kernel "$(uname -sr)"
    line machine governor "$(governor)"
    line machine steal "$(steal_share)"
    line machine "load average" "$(cut -d ' ' -f 1-3 /proc/loadavg)"
    line machine standin "$(version_of "$STANDIN" --version) $(git -C "$ROOT" rev-parse --short HEAD 2> /dev/null || true)"
    line machine haproxy "$(version_of haproxy -v)"
    line machine nginx "$(version_of nginx -v)"
    line machine iperf3 "$(version_of iperf3 --version)"
    line machine wrk "$(version_of wrk -v)"
    line machine seconds "$SECONDS_EACH"
    line machine date "$(date -u +%FT%TZ)"
}
