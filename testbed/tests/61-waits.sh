#!/usr/bin/env bash
# A survivor starts on a host that is only half there: it waits, says for what, and serves when it may.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/said.sh"

on_a() { "$LAB" exec si-a "$@"; }
status=("$STANDIN" status --config "$LAB_STATE/standin.toml" --node a)

clean_up() {
    [[ ! -d $LAB_FILES.away ]] || mv "$LAB_FILES.away" "$LAB_FILES"
    on_a ip link set nic0 name eth0 2> /dev/null || true
    "$LAB" heal a
    "$LAB" up
}
trap clean_up EXIT

pair_ready
"$LAB" stop b
"$LAB" stop a
# Its end of the cable has neither carrier nor address.
on_a ip address flush dev repl0
"$LAB" cut a repl
before=$(lines a)
"$LAB" start a
check "without replication cable and address a survivor serves" wait_until 5 "a to serve" served
check "and says what is missing" logged a "no interface has the address 10.78.0.1 (replication-address)" "$before"
check "and that it protects nobody" soon 0 "node b was never heard" "${status[@]}"
on_a ip address add 10.78.0.1/24 dev repl0
"$LAB" heal a
"$LAB" start b
check "with the cable it is protected" "$LAB" wait duplex 10
"$LAB" stop b
"$LAB" stop a

# Everything late, and one thing after the other.
on_a ip link set eth0 down
on_a ip link set eth0 name nic0
on_a ip address flush dev nic0
mv "$LAB_FILES" "$LAB_FILES.away"
before=$(lines a)
"$LAB" start a &
starting=$!
check "an interface is waited for" soon 1 "there is no interface eth0 (lan-interface)" "${status[@]}"
on_a ip link set nic0 name eth0
on_a ip link set eth0 up
check "then its address" soon 1 "no interface has the address 10.77.0.1 (lan-address)" "${status[@]}"
on_a ip address add 10.77.0.1/24 dev eth0
on_a ip address add fd77::1/64 dev eth0 nodad
check "then a document root" soon 1 "files is not a directory (root of service 80)" "${status[@]}"
mv "$LAB_FILES.away" "$LAB_FILES"
check "then it serves" wait_until 5 "a to serve" served
check "who started it was not told of a failure" wait "$starting"
for what in "there is no interface eth0" "no interface has the address 10.77.0.1" "is not a directory"; do
    check "the log says so: $what" logged a "$what" "$before"
done
check "the pair is whole at the end" pair_ready
