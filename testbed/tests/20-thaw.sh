#!/usr/bin/env bash
# A primary that was frozen, and is thawed after the takeover, stays silent and returns as standby.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/sniff.sh"

trap 'give_up; sniff_end' EXIT
pair_ready
old=$("$LAB" primary)
new=$(other "$old")
begin busy mixed "$SERVICE4" "$SERVICE6" -n 40 --stall 20s
ready busy
"$LAB" freeze "$old"
check "takeover from a frozen primary" wait_until 10 "$new to be primary" is_primary "$new"
# From here on the old primary must not say anything in the name of the service address: no
# segment, no ARP reply, no neighbour advertisement.
sniff_begin thaw "ether src $(mac_of "$old") and (src host $SERVICE4 or src host $SERVICE6 \
    or (arp and arp[14:4] = 0x0a4d0064) or (ip6[6] = 58 and ip6[40] = 136 and \
    ip6[48:4] = 0xfd770000 and ip6[60:4] = 0x00000100))"
"$LAB" thaw "$old"
check "thawed primary returns as standby" "$LAB" wait standby "$old" 15
check "pair is duplex again" "$LAB" wait duplex 30
check "connections go on" finish busy
sniff_end
check "thawed primary stays silent" test "$(sniff_count thaw)" = 0
