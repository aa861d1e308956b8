#!/usr/bin/env bash
# Kernel clients and unmodified servers, joined by a relay: both halves of a connection outlive the
# engine, a server that dies takes no new client with it, and a node that returns protects again.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/sniff.sh"
. "$here/lib/nginx.sh"
. "$here/lib/wire.sh"

PORT=${RELAY_PORT:-8080}
# What a client's connection and one to a server are: one splice, or two connections.
KIND=${RELAY_KIND:-splices}
NAME=${RELAY_NAME:-relay}
STORE=$LAB_FILES/up
read -ra FAULTS <<< "${RELAY_FAULTS:-kill freeze poweroff switchover}"
declare -A ADDRESS=([4]="$SERVICE4" [6]="$SERVICE6")

clean_up() {
    give_up
    sniff_end
    wire_out
    nginx_end be1
    nginx_end be2
    rm -rf "$STORE" "$LAB_FILES"/relay.{bin,txt} "$LAB_FILES/upload.bin"
}
trap clean_up EXIT

url() { if [[ $1 == 4 ]]; then echo "http://$SERVICE4:$PORT"; else echo "http://[$SERVICE6]:$PORT"; fi; }

# upload NAME FAMILY RATE: curl, whose file is stored by a server.
upload() {
    rm -f "$STORE/$1.bin" "$SCENE/$1.out"
    client curl --silent --show-error --fail --max-time 30 --limit-rate "$3" -H Expect: \
        --upload-file "$LAB_FILES/upload.bin" "$(url "$2")/up/$1.bin" > "$SCENE/$1.out" 2>&1 &
    CLIENTS[$1]=$!
}

# Whole, and the same.
uploaded() {
    await "$1" && cmp "$LAB_FILES/upload.bin" "$STORE/$1.bin"
}

download() { # NAME FAMILY RATE
    begin "$1" files "${ADDRESS[$2]}" --port "$PORT" --path /relay.bin --seed-content 5 \
        --length 16MiB --bytes 16MiB --rate "$3" --stall 20s
}

# converse NAME FAMILY: one connection, one small request every 20 ms.
converse() {
    begin "$1" files "${ADDRESS[$2]}" --port "$PORT" --path /relay.txt --seed-content 6 \
        --length 1KiB --duration 1h --rate 50KiB --stall 20s
}

# A round: all kinds in both families at the same time, and one failure.
round() { # FAULT
    local fault=$1 family old
    pair_ready || return 1
    old=$("$LAB" primary)
    if [[ $fault == kill ]]; then
        sniff_begin relay "tcp port $PORT and (host $SERVICE4 or host $SERVICE6)"
    fi
    for family in 4 6; do
        upload "upload$family" "$family" 6M
        download "download$family" "$family" 6MiB
        converse "talk$family" "$family"
    done
    ready download4 talk4 download6 talk6 || return 1
    harm "$fault" "$old" || return 1
    check "$NAME, $fault: role" \
        wait_until 10 "$(other "$old") to be primary" is_primary "$(other "$old")"
    for family in 4 6; do
        check "$NAME, $fault, IPv$family: download" await "download$family"
        check "$NAME, $fault, IPv$family: upload" uploaded "upload$family"
        check "$NAME, $fault, IPv$family: conversation" finish "talk$family"
    done
    if [[ $fault == kill ]]; then
        sniff_end
        check "$NAME, $fault: nothing to notice on the wire" "$DRILL" check-capture \
            "$SCENE/relay.pcap" --service "$SERVICE4" --service "$SERVICE6" --takeovers 1 --late 2ms
    fi
}

# Losses, reordering and corruption are the ends' to repair, and so they do across a kill.
bad_link() {
    pair_ready
    local old name
    old=$("$LAB" primary)
    wire_in --delay 5ms --jitter 1ms --loss 1% --reorder 1% --reorder-by 3ms --duplicate 0.5% \
        --corrupt 0.5% --rate 200Mbit --seed 7
    for name in 4 6; do
        upload "upload$name" "$name" 4M
        download "download$name" "$name" 4MiB
    done
    ready download4 download6 || return 1
    "$LAB" kill "$old"
    for name in 4 6; do
        check "$NAME, bad link, kill, IPv$name: download" await "download$name"
        check "$NAME, bad link, kill, IPv$name: upload" uploaded "upload$name"
    done
    wire_out
}

# What an engine says to a person: each backend on a line of its own.
says() { "$STANDIN" status --config "$(config_file)" --node "$1"; }

# backend_is HOST up|down: what the primary thinks of it, in both families.
backend_is() {
    local last=2${1#be} up=true
    [[ $2 == up ]] || up=false
    [[ $(says "$("$LAB" primary)" | grep -E "port $PORT," | grep -E "address (10\.77\.0\.|\[fd77::)$last\]?:80," |
        grep -c "up $up,") == 2 ]]
}

# Both know the same splices, and there are some.
same_splices() {
    local a b
    a=$(engine_status a | field "$KIND")
    b=$(engine_status b | field "$KIND")
    [[ $a == "$b" && $a -gt 0 ]]
}

who() { client curl --silent --show-error --max-time 5 "$(url "$1")/who"; }
answers() { [[ $(who "$1") == "$2" ]]; }

# all_answered HOST: new clients of both families come to it, and to no other.
all_answered() {
    local count family
    for family in 4 6; do
        for count in 1 2 3 4; do
            answers "$family" "$1" || { say "client $count of IPv$family: not $1"; return 1; }
        done
    done
}

refused() { # FAMILY
    local code=0
    client curl --silent --max-time 3 "$(url "$1")/who" || code=$?
    ((code == 7)) || { say "curl: $code"; return 1; }
}

# One of two downloads was its, and that one ends long before it counts as stalled; the other goes on
# to its end.
one_ended() {
    local lost=0 name began=$SECONDS
    for name in one two; do
        await "$name" 2> "$SCENE/$name.err" || lost=$((lost + 1))
    done
    ((lost == 1 && SECONDS - began < 15)) ||
        { say "$lost of two downloads ended"; cat "$SCENE"/{one,two}.err >&2; return 1; }
}

backend_dies() {
    pair_ready
    wait_until 10 "both backends to be up" backends_are up
    download one 4 4MiB
    download two 4 4MiB
    ready one two
    nginx_end be1 KILL
    check "$NAME: a dead backend's clients are told, the other's go on" one_ended
    check "$NAME: clients go to the other backend" all_answered be2
    check "$NAME: the dead backend is shown as down" wait_until 10 "be1 to be down" backend_is be1 down
    nginx_end be2 KILL
    # A join opens to a client before its backend does: it refuses only once it knows that none is left.
    check "$NAME: the last dead backend is shown as down" wait_until 10 "be2 to be down" backend_is be2 down
    for family in 4 6; do
        check "$NAME, IPv$family: without backends clients are refused" refused "$family"
    done
    nginx_begin be1
    nginx_begin be2
    check "$NAME: a backend that returns is shown as up" wait_until 10 "both to be up" backends_are up
    for family in 4 6; do
        check "$NAME, IPv$family: it gets clients again" \
            wait_until 10 "be1 to answer" answers "$family" be1
    done
}

backends_are() { backend_is be1 "$1" && backend_is be2 "$1"; }

# Nobody refuses for a host that is gone: a client's second SYN goes on to another backend.
backend_host_dies() {
    pair_ready
    wait_until 10 "both backends to be up" backends_are up
    "$LAB" exec si-sw ip link set dev be1 down
    check "$NAME: clients of a dead host go on to another backend" all_answered be2
    check "$NAME: the dead host is shown as down" wait_until 10 "be1 to be down" backend_is be1 down
    "$LAB" exec si-sw ip link set dev be1 up
    check "$NAME: a host that returns is shown as up" wait_until 10 "both to be up" backends_are up
}

# Two kills, and the node that fell first carries the splices at the end.
reintegrate() {
    pair_ready
    local first second
    first=$("$LAB" primary)
    second=$(other "$first")
    upload upload 6 2M
    converse talk4 4
    converse talk6 6
    ready talk4 talk6
    "$LAB" kill "$first"
    wait_until 10 "$second to be primary" is_primary "$second"
    "$LAB" start "$first"
    check "$NAME: $KIND are protected again" "$LAB" wait duplex 10
    check "$NAME: the node that returned knows them" wait_until 5 "the same $KIND" same_splices
    "$LAB" kill "$second"
    check "$NAME: takeover by the node that returned" \
        wait_until 10 "$first to be primary" is_primary "$first"
    check "$NAME, second kill: upload" uploaded upload
    check "$NAME, second kill: IPv4 conversation" finish talk4
    check "$NAME, second kill: IPv6 conversation" finish talk6
}

"$DRILL" make-file "$LAB_FILES/relay.bin" --bytes 16MiB --seed 5
"$DRILL" make-file "$LAB_FILES/relay.txt" --bytes 1KiB --seed 6
"$DRILL" make-file "$LAB_FILES/upload.bin" --bytes 16MiB --seed 7
nginx_begin be1
nginx_begin be2
pair_ready
check "$NAME: both backends come up" wait_until 10 "both to be up" backends_are up
for fault in "${FAULTS[@]}"; do
    round "$fault" || echo "not ok $NAME, $fault: could not be tried"
    give_up
done
bad_link || echo "not ok $NAME behind a bad link: could not be tried"
give_up
backend_dies || echo "not ok $NAME: a backend dies: could not be tried"
give_up
backend_host_dies || echo "not ok $NAME: a backend's host dies: could not be tried"
reintegrate || echo "not ok $NAME: reintegration: could not be tried"
give_up
check "the pair recovers" pair_ready
