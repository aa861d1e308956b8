#!/usr/bin/env bash
# The service address behaves as a host's does: it answers ping, also in fragments, and refuses
# closed ports.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"

pings() { client ping -q -n -c 3 -i 0.2 -W 2 "$@" > "$SCENE/ping.txt" || { cat "$SCENE/ping.txt" >&2; return 1; }; }

# A reset comes at once; silence would take the client's seven SYNs.
refuses() { # ADDRESS PORT
    local said
    # shellcheck disable=SC2016 # the inner shell expands it
    said=$(client timeout 3 bash -c 'exec 3<> "/dev/tcp/$1/$2"' connect "$@" 2>&1) && return 1
    grep -q "Connection refused" <<< "$said" || { say "$said"; return 1; }
}

pair_ready
for address in "$SERVICE4" "$SERVICE6"; do
    check "$address answers ping" pings "$address"
    check "$address answers a ping of three fragments" pings -s 4000 "$address"
    check "$address answers a ping of the largest size" pings -s 65000 "$address"
    check "$address refuses a closed port" refuses "$address" 81
done
