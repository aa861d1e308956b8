#!/usr/bin/env bash
# A pair that is being upgraded one node at a time: this version and the one before it, switched over
# back and forth under load. Nobody loses anything.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/earlier.sh"

MIB=8

clean_up() {
    give_up
    config_back
    rm -f "$LAB_FILES/versions.bin"
}
trap clean_up EXIT

# Each connection lives through all switchovers; the file is compared first, as any is.
load() {
    begin talk echo "$SERVICE4" "$SERVICE6" --think 2ms -n 8 --stall 5s
    begin stream mixed "$SERVICE4" "$SERVICE6" -n 24 --weights echo=1,discard=1,chargen=1 \
        --rate 256KiB --stall 5s
    begin download files "$SERVICE4" --path /versions.bin --seed-content 9 --length "${MIB}MiB" \
        --duration 1h --rate 4MiB --stall 5s
    ready talk stream download
    "$LAB" wait duplex 20
}

# to NODE: it owns, by a switchover that was not forced, and the pair is protected again.
to() {
    local from
    from=$(other "$1")
    harm switchover "$from" && wait_until 5 "$1 to be primary" is_primary "$1" && "$LAB" wait duplex 10
}

# outlived WHAT: no connection noticed it.
outlived() {
    local name
    for name in talk stream download; do
        check "$1: $name goes on" finish "$name"
    done
}

"$DRILL" make-file "$LAB_FILES/versions.bin" --bytes "${MIB}MiB" --seed 9
earlier_built
pair_ready
"$LAB" stop a
"$LAB" stop b
earlier_config
"$LAB" start a
LAB_BIN=$EARLIER "$LAB" start b
"$LAB" wait duplex 10
is_primary a || to a
load
for turn in first second; do
    check "$turn switchover from this version to the one before" to b
    check "$turn switchover from the version before to this one" to a
done
to b
"$LAB" kill b
check "the version before is killed: this one takes over" wait_until 5 "a to be primary" is_primary a
outlived "two versions in turns"
LAB_BIN=$EARLIER "$LAB" start b
"$LAB" wait duplex 10
load
"$LAB" kill a
check "this version is killed: the one before takes over" wait_until 5 "b to be primary" is_primary b
outlived "the version before takes over"
"$LAB" stop b
config_back
check "the pair is whole at the end" pair_ready
