#!/usr/bin/env bash
# A thousand busy connections at the moment of the kill: none lost, no byte wrong.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"

trap give_up EXIT
pair_ready
old=$("$LAB" primary)
begin thousand mixed "$SERVICE4" "$SERVICE6" -n 1000 --weights echo=1,discard=1,chargen=1 \
    --rate 256KiB --stall 30s
ready thousand
"$LAB" kill "$old"
check "takeover under a thousand connections" \
    wait_until 10 "$(other "$old") to be primary" is_primary "$(other "$old")"
check "a thousand connections go on" finish thousand
check "the pair recovers" pair_ready
