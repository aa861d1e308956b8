#!/usr/bin/env bash
# Thousands of idle connections at the moment of the kill: none lost, and each can speak.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/swarm.sh"

trap 'give_up; swarm_out' EXIT
pair_ready
swarm_in
old=$("$LAB" primary)

says() { grep -qE "\"$1\": $2,?\$" "$SCENE/crowd.json"; }
refused() { # WORDS OPTION…
    local words=$1 code=0 said
    shift
    said=$(client "$SWARM" "$@" 2>&1) || code=$?
    [[ $code == 2 && $said == *"$words"* ]] || { say "$code: $said"; return 1; }
}

fails() { ! "$@"; }

check "a swarm that has no room is refused" refused "has room for 64512 connections" \
    "$SERVICE4" --sources 10.99.0.1/32 -n 64513
check "a swarm of another family is refused" refused "one is IPv4, the other IPv6" \
    "$SERVICE6" --sources "$SWARM_NET"
check "a device that is none is refused" refused "cannot open the TUN device eth0" \
    "$SERVICE4" --sources "$SWARM_NET" --device eth0

swarm crowd -n 8000 --rate 8000 --asking 400 --every 200ms --stall 20s
check "8,000 connections open" swarm_ready crowd 20
check "they are protected" "$LAB" wait duplex 10
"$LAB" kill "$old"
check "takeover under 8,000 connections" \
    wait_until 10 "$(other "$old") to be primary" is_primary "$(other "$old")"
check "8,000 connections go on" finish crowd
check "each was checked, and closed in order" says completed 8000
for trouble in refused unanswered reset lost wrong; do
    check "in the swarm, none $trouble" says "$trouble" 0
done
swarm crowd -n 10 --port 99 --hold 0s
check "what is refused is no success" fails await crowd
check "and is told" says refused 10
swarm_out
check "the pair recovers" pair_ready
