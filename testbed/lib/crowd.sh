# shellcheck shell=bash
# Crowds that ask for more than their share, and what the others and the nodes notice of it. Sourced after
# scene.sh and engine.sh; the pair is ready.

CROWD=$SCENE/crowd
CROWDS=()
PROBE=
WATCH=
declare -A TAKEOVERS=() LENGTH=()

# crowd NAME COMMAND ARGUMENT…: begins one of crowd.py; its words are in $CROWD-NAME.txt.
crowd() {
    local name=$1
    shift
    client python3 "$ROOT/testbed/lib/crowd.py" "$@" > "$CROWD-$name.txt" 2>&1 < /dev/null &
    CROWDS+=($!)
}

# crowd_ready NAME SECONDS: it has done what it came for.
crowd_ready() { wait_until "$2" "the crowd '$1'" grep -q ^ready "$CROWD-$1.txt" || { cat "$CROWD-$1.txt" >&2; return 1; }; }

# crowd_ends: waits until the last one that was begun has gone.
crowd_ends() { wait "${CROWDS[-1]}"; }

crowds_end() {
    local job
    for job in "${CROWDS[@]}" $PROBE $WATCH; do
        kill -TERM "$job" 2> /dev/null || true
        wait "$job" 2> /dev/null || true
    done
}

# probe_begin SECONDS: twenty clients that ask, and want an answer at once.
probe_begin() {
    client python3 "$ROOT/testbed/lib/crowd.py" probe "$SERVICE4" 20 "$1" > "$CROWD-probe.txt" 2>&1 < /dev/null &
    PROBE=$!
}

# probed_within MS: of their answers 99 in 100 came within that time.
probed_within() {
    local count p50 p99 most
    wait "$PROBE" || { cat "$CROWD-probe.txt" >&2; return 1; }
    PROBE=
    read -r count p50 p99 most < "$CROWD-probe.txt"
    say "others: $count answers, p50 $p50 ms, p99 $p99 ms, max $most ms"
    awk -v p99="$p99" -v most="$1" 'BEGIN { exit p99 >= most }'
}

# keep_watch: notes the most resident memory of each node from now on, and where logs and counters stand.
keep_watch() {
    local node
    for node in a b; do
        TAKEOVERS[$node]=$(engine_status "$node" | field takeovers)
        LENGTH[$node]=$(wc -l < "$LAB_STATE/$node.log")
        echo 0 > "$CROWD-most-$node"
    done
    watch_end
    watch_memory &
    WATCH=$!
}

watch_end() {
    [[ -n $WATCH ]] || return 0
    kill "$WATCH" 2> /dev/null || true
    wait "$WATCH" 2> /dev/null || true
    WATCH=
}

watch_memory() {
    local node now
    while sleep 0.2; do
        for node in a b; do
            now=$(resident "$node") || continue
            if ((now > $(< "$CROWD-most-$node"))); then
                echo "$now" > "$CROWD-most-$node.new"
                mv "$CROWD-most-$node.new" "$CROWD-most-$node"
            fi
        done
    done
}

# resident NODE: its engine's resident memory in MiB.
resident() {
    local pid kib
    pid=$(engine_pid "$1") || return 1
    kib=$(sed -n 's/^VmRSS:\s*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2> /dev/null)
    [[ -n $kib ]] && echo $((kib / 1024))
}

# stayed_below MIB: neither node has ever had more since keep_watch.
stayed_below() {
    local node most bad=0
    for node in a b; do
        most=$(< "$CROWD-most-$node")
        say "node $node had $most MiB at most, and has $(resident "$node") MiB"
        ((most > 0 && most < $1)) || bad=1
    done
    return "$bad"
}

# nobody_took_over: since keep_watch.
nobody_took_over() {
    local node now bad=0
    for node in a b; do
        now=$(engine_status "$node" | field takeovers)
        [[ $now == "${TAKEOVERS[$node]}" ]] || { say "node $node took over: $now, was ${TAKEOVERS[$node]}"; bad=1; }
    done
    return "$bad"
}

# nobody_stood_still: since keep_watch no engine has said so, as it does beyond half of its detection time.
nobody_stood_still() {
    local node bad=0
    for node in a b; do
        if grep "stood still" <(tail -n "+$((LENGTH[$node] + 1))" "$LAB_STATE/$node.log") >&2; then
            say "this was node $node"
            bad=1
        fi
    done
    return "$bad"
}
