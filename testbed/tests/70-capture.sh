#!/usr/bin/env bash
# The engine's own captures: what they hold of a takeover, rings, a full disk, and what is refused.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"

SMALL=$SCENE/small # a disk that is nearly full

clean_up() {
    give_up
    umount "$SMALL" 2> /dev/null || true
}
trap clean_up EXIT

# engine NODE COMMAND…: a command of standin for the engine of a node.
engine() {
    local node=$1
    shift
    "$LAB" exec "si-$node" "$STANDIN" "$@" --config "$LAB_STATE/standin.toml" --node "$node"
}

# refused CODE WORDS COMMAND…: fails with this code and says so.
refused() {
    local expected=$1 words=$2 code=0 said
    shift 2
    said=$("$@" 2>&1) || code=$?
    [[ $code == "$expected" && $said == *"$words"* ]] || { say "$code: $said"; return 1; }
}

# packets FILE [FILTER]: how many there are; fails where tcpdump complains.
packets() {
    local said
    said=$(tcpdump -nn -r "$1" "${2:-ip or ip6}" 2>&1 > "$SCENE/packets") ||
        { say "$said"; return 1; }
    wc -l < "$SCENE/packets"
}

readable() { packets "$1" > /dev/null; }

both_ways() {
    local from to
    from=$(packets "$1" "src host $SERVICE4 and tcp port 7")
    to=$(packets "$1" "dst host $SERVICE4 and tcp port 7")
    ((from > 10 && to > 10)) || { say "$from packets from the service, $to to it"; return 1; }
}

# marked_in FILE TEXT…: the marks are there, in this order.
marked_in() {
    local file=$1 text marks
    shift
    marks=$(grep -aoE '(node|role|takeover|link|report): [ -~]+' "$file")
    for text in "$@"; do
        [[ $marks == *"$text"* ]] || { say "no '$text' in: $marks"; return 1; }
        marks=${marks#*"$text"}
    done
}

is_private() { [[ $(stat -c %a "$1") == 600 ]]; }

# Each file of the ring can be read, none is too large, and there are no more than three. The newest
# may just have begun.
ring_is_whole() {
    local file
    for file in "$1" "$1.1" "$1.2"; do
        (($(stat -c %s "$file") <= 1048576)) || { say "$file is too large"; return 1; }
        readable "$file" || return 1
    done
    for file in "$1.1" "$1.2"; do
        (($(packets "$file") > 10)) || { say "$file has too few packets"; return 1; }
    done
    [[ ! -e $1.3 ]] || { say "there is a fourth file"; return 1; }
}

status_says() { engine "$1" status --json | grep -qE "$2"; }

rm -f "$SCENE"/*.pcapng*
pair_ready
old=$("$LAB" primary)
new=$(other "$old")

check "capture of the primary" engine "$old" capture start "$SCENE/old.pcapng"
check "capture of the standby" engine "$new" capture start "$SCENE/new.pcapng"
check "status shows the capture" status_says "$new" '"running": true'
check "one capture at a time" refused 1 "a capture is running" \
    engine "$new" capture start "$SCENE/second.pcapng"
check "size out of range" refused 2 "a capture file has 1.0 MiB to 1.0 TiB" \
    engine "$new" capture start "$SCENE/second.pcapng,3"
begin asking echo "$SERVICE4" -n 4 --think 5ms --stall 20s
ready asking
"$LAB" kill "$old"
check "takeover under capture" wait_until 10 "$new to be primary" is_primary "$new"
sleep 0.3
check "connections go on under capture" finish asking
check "capture stop" engine "$new" capture stop
check "status shows no capture" status_says "$new" '"capture": null'
check "capture stop without a capture" refused 1 "no capture is running" engine "$new" capture stop
check "both directions are in the new primary's capture" both_ways "$SCENE/new.pcapng"
check "both directions are in the dead primary's capture" both_ways "$SCENE/old.pcapng"
check "the takeover is marked" marked_in "$SCENE/new.pcapng" "node: $new, standby" "link: down" \
    "role: standby -> primary (simplex)" "takeover: begins" "takeover: routes set after" \
    "takeover: announced after" "takeover: first packet after"
check "a capture is private" is_private "$SCENE/new.pcapng"
check "an earlier capture is not overwritten" refused 1 "an earlier capture" \
    engine "$new" capture start "$SCENE/new.pcapng"
echo "a diary" > "$SCENE/diary.pcapng"
check "another file is not overwritten" refused 1 "something else of that name" \
    engine "$new" capture start "$SCENE/diary.pcapng,1MiB,4"
check "a path that cannot be written" refused 1 "No such file or directory" \
    engine "$new" capture start "$SCENE/no/such.pcapng"

check "capture into a ring" engine "$new" capture start "$SCENE/ring.pcapng,1MiB,3"
begin upload discard "$SERVICE4" --bytes 8MiB
check "upload under capture" await upload
check "end of the ring" engine "$new" capture stop
check "a ring keeps its last files whole" ring_is_whole "$SCENE/ring.pcapng"

# What `run` itself begins has everything from the first word of the pair on.
check "the pair recovers" pair_ready
"$LAB" stop "$old"
check "run --capture" env LAB_CAPTURE="$SCENE/run.pcapng" "$LAB" start "$old"
check "status shows the capture that run has begun" status_says "$old" '"running": true'
check "the pair is protected again" "$LAB" wait duplex 20
"$LAB" kill "$new"
check "takeover under it" wait_until 10 "$old to be primary" is_primary "$old"
begin asking echo "$SERVICE4" -n 4 --think 5ms --stall 20s
ready asking
check "connections are captured" finish asking
"$LAB" stop "$old"
check "it is whole when its engine has stopped" both_ways "$SCENE/run.pcapng"
check "and tells of all roles" marked_in "$SCENE/run.pcapng" "node: $old, joining" "link: up" \
    "-> standby" "takeover: begins"

# The engine that is started next sees the disk.
if ((EUID == 0)); then
    mkdir -p "$SMALL"
    mount -t tmpfs -o size=256k tmpfs "$SMALL"
    head -c 196608 /dev/zero > "$SMALL/filler"
fi
check "the pair recovers" pair_ready
if ((EUID == 0)); then
    check "capture onto a disk that is nearly full" engine "$old" capture start "$SMALL/c.pcapng"
    begin filling echo "$SERVICE4" -n 8 --think 1ms
    ready filling
    check "a full disk ends the capture" wait_until 15 "the capture to end" \
        status_says "$old" '"ended": ".*No space left'
    check "connections do not notice" finish filling
    check "nor does the pair" "$LAB" wait duplex 1
    check "what was written can be read" readable "$SMALL/c.pcapng"
fi
