#!/usr/bin/env bash
# Every kind of traffic through every kind of failure, IPv4 and IPv6.
#
# All kinds of traffic run at the same time and meet the same failure, each from a client of its
# own, and each is judged by itself: a cell of the matrix is a line of the output.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"

declare -A TRAFFIC=(
    [download]="chargen"
    [upload]="discard"
    [request]="echo --think 2ms -n 4"
    [idle]="idle -n 4"
    # A new connection as soon as one has ended: at any moment some are being opened …
    [handshake]="echo --bytes 64 --repeat --duration 1h -n 8"
    # … or, with more to say, closed while bytes are on their way.
    [closing]="echo --bytes 64KiB --repeat --duration 1h -n 8"
    [halfclosed]="files --early-fin --path /matrix.bin --seed-content 5 --length 24MiB --rate 8MiB"
)
read -ra FAULTS <<< "${MATRIX_FAULTS:-kill freeze poweroff cut-lan cut-repl switchover}"

# After the failure the other is primary, except where one path of two was lost: that is reported,
# and is no reason to take over.
heir() { if [[ $1 == cut-repl ]]; then echo "$2"; else other "$2"; fi; }

round() { # FAULT FAMILY ADDRESS
    local fault=$1 family=$2 address=$3 kind words old started=()
    pair_ready || return 1
    old=$("$LAB" primary)
    for kind in "${!TRAFFIC[@]}"; do
        read -ra words <<< "${TRAFFIC[$kind]}"
        begin "$kind" "${words[@]}" "$address" --stall 20s
        started+=("$kind")
    done
    ready "${started[@]}" || return 1
    harm "$fault" "$old" || return 1
    check "$fault $family: role" \
        wait_until 10 "$(heir "$fault" "$old") to be primary" is_primary "$(heir "$fault" "$old")"
    for kind in "${started[@]}"; do
        check "$fault $family: $kind" finish "$kind"
    done
}

trap give_up EXIT
"$DRILL" make-file "$LAB_FILES/matrix.bin" --bytes 24MiB --seed 5
for fault in "${FAULTS[@]}"; do
    for family in IPv4 IPv6; do
        address=$SERVICE4
        [[ $family == IPv4 ]] || address=$SERVICE6
        round "$fault" "$family" "$address" || echo "not ok $fault $family: could not be tried"
        give_up
    done
done
check "the pair recovers" pair_ready
