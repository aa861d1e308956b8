#!/usr/bin/env bash
# Crowds that ask for more than their share: heads by the hundred thousand in one go, and input of which the
# first byte never comes. No node is taken for dead, the others are answered soon, and both nodes keep to the
# memory budget.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/swarm.sh"
. "$here/lib/crowd.sh"

BUDGET=256 # MiB, the default of [limits] memory
# What an engine may take beside it: what it needs itself, and what the allocator loses on blocks of all sizes,
# 98 MiB at most so far.
BESIDE=128
LATE=150   # ms: the crowds need processors, too

clean_up() {
    give_up
    crowds_end
    swarm_out
    rm -f "$LAB_FILES/small.txt"
}

# judged WHAT: how the others and the nodes have taken it.
judged() {
    check "$1: others are answered within $LATE ms at p99" probed_within "$LATE"
    check "$1: no node took over" nobody_took_over
    check "$1: both nodes keep to the budget" stayed_below "$((BUDGET + BESIDE))"
}

trap clean_up EXIT
"$DRILL" make-file "$LAB_FILES/small.txt" --bytes 1KiB --seed 8 > /dev/null
pair_ready
keep_watch
probe_begin 10
crowd bursts bursts "$SERVICE4" 200 2000 8
check "200 clients ask 2,000 times at once, again and again" crowd_ready bursts 8
crowd_ends
judged "bursts"

swarm_in
keep_watch
probe_begin 16
crowd holes holes "$SERVICE4" 10000 14
check "10,000 clients leave out the first byte" crowd_ready holes 14
crowd_ends
judged "holes"
swarm_out
check "the pair is protected" "$LAB" wait duplex 10
