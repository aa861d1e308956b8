#!/usr/bin/env bash
# Interfaces that come and go on both nodes by the hundred, as those of containers do, while clients are
# served: nobody notices, and no node stands still.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/crowd.sh"

PAIRS=200

# veths NODE add|del: one command of ip each, but one process for all.
veths() {
    local number
    for ((number = 0; number < PAIRS; number++)); do
        case $2 in
            add)
                echo "link add ve$number type veth peer name vp$number"
                echo "link set ve$number up"
                echo "address add 192.168.$number.1/24 dev ve$number"
                ;;
            del) echo "link del ve$number" ;;
        esac
    done | "$LAB" exec "si-$1" ip -force -batch - > "$SCENE/veths-$1.txt" 2>&1
}

come_and_go() {
    local verb node jobs job bad=0
    for verb in add del add del; do
        jobs=()
        for node in a b; do
            veths "$node" "$verb" &
            jobs+=($!)
        done
        for job in "${jobs[@]}"; do
            wait "$job" || bad=1
        done
    done
    ((bad == 0)) || { cat "$SCENE"/veths-?.txt >&2; return 1; }
}

clean_up() {
    give_up
    crowds_end
    for node in a b; do
        veths "$node" del || true
    done
}

trap clean_up EXIT
pair_ready
begin churned mixed "$SERVICE4" "$SERVICE6" -n 60 --rate 256KiB --stall 5s
ready churned
keep_watch
probe_begin 15
check "$PAIRS pairs of interfaces come and go on both nodes, twice" come_and_go
check "whoever asks meanwhile is answered" probed_within 50
check "connections go on" finish churned
check "no node took over" nobody_took_over
check "none stood still" nobody_stood_still
check "the pair is protected" "$LAB" wait duplex 5
