#!/usr/bin/env bash
# What the client's wire shows during a kill: no reset, no regression, no shrunk window.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/sniff.sh"

trap 'give_up; sniff_end' EXIT
pair_ready
old=$("$LAB" primary)
sniff_begin kill "tcp and (host $SERVICE4 or host $SERVICE6)"
begin paced mixed "$SERVICE4" "$SERVICE6" -n 12 --rate 1MiB --stall 20s
begin asking echo "$SERVICE4" "$SERVICE6" -n 4 --think 2ms --stall 20s
ready paced asking
"$LAB" kill "$old"
check "paced connections go on" finish paced
check "asking connections go on" finish asking
sniff_end
check "a kill leaves nothing to notice on the wire" "$DRILL" check-capture "$SCENE/kill.pcap" \
    --service "$SERVICE4" --service "$SERVICE6" --takeovers 1
check "the pair recovers" pair_ready
