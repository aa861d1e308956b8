#!/usr/bin/env bash
# Clients behind a bad link: loss, reordering, duplicates, corruption, and then a kill.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/wire.sh"

trap 'give_up; wire_out' EXIT
pair_ready
old=$("$LAB" primary)
wire_in --delay 5ms --jitter 1ms --loss 1% --reorder 1% --reorder-by 3ms --duplicate 0.5% \
    --corrupt 0.5% --rate 200Mbit --seed 7
begin moving mixed "$SERVICE4" "$SERVICE6" -n 30 --rate 2MiB --stall 30s
begin asking echo "$SERVICE4" "$SERVICE6" -n 4 --think 20ms --stall 30s
ready moving asking
"$LAB" kill "$old"
wait_until 10 "$(other "$old") to take over" is_primary "$(other "$old")"
# Long enough for every connection to lose something again.
sleep 5
check "behind a bad link, transfers go on through a kill" finish moving
check "behind a bad link, conversations go on through a kill" finish asking
wire_end
# Both ways saw all of it, or the two lines above say nothing.
faulty() { # PATTERN
    [[ $(grep -cE "$1" "$WIRE_OUT") == 2 ]]
}
check "the link was bad" faulty ' [1-9][0-9]* lost, .* [1-9][0-9]* twice, [1-9][0-9]* held back, [1-9][0-9]* corrupted'
wire_out
check "the pair recovers" pair_ready
