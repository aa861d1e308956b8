#!/usr/bin/env bash
# One long download through a relay with mode "replay", while whichever server serves it is killed ten times,
# and the primary twice in between: every byte right, and hardly any read twice.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/scene.sh"
. "$here/lib/nginx.sh"
. "$here/lib/masked.sh"

MIB=${TEN_KILLS_MIB:-1024}
PORT=8082
FILE=$LAB_FILES/ten-kills.bin

clean_up() {
    give_up
    nginx_end be1
    nginx_end be2
    rm -rf "$FILE" "$LAB_FILES/up"
}
trap clean_up EXIT

# sent: bytes that the servers have put on the wire, headers included.
sent() {
    local host total=0
    for host in be1 be2; do
        total=$((total + $("$LAB" exec "si-$host" cat /sys/class/net/eth0/statistics/tx_bytes)))
    done
    echo "$total"
}

kill_server() {
    local host
    wait_until 5 "a server to serve" serving > /dev/null || return 1
    host=$(serving)
    nginx_end "$host" KILL
    nginx_begin "$host"
    wait_until 10 "both servers to be up" servers_up "$PORT"
}

kill_primary() {
    local old
    old=$("$LAB" primary)
    "$LAB" kill "$old"
    wait_until 10 "$(other "$old") to be primary" is_primary "$(other "$old")"
    "$LAB" start "$old"
    "$LAB" wait duplex 20
}

"$DRILL" make-file "$FILE" --bytes "${MIB}MiB" --seed 9
nginx_begin be1
nginx_begin be2
pair_ready
wait_until 10 "both servers to be up" servers_up "$PORT"
before=$(sent)
begin down files "$SERVICE4" --port "$PORT" --path /ten-kills.bin --seed-content 9 --length "${MIB}MiB" \
    --bytes "${MIB}MiB" --rate "$((MIB / 45))MiB" --stall 10s
ready down
for turn in 1 2 3 4 5 6 7 8 9 10; do
    kill_server || echo "not ok ten kills: server $turn: could not be killed"
    if ((turn == 3 || turn == 7)); then
        kill_primary || echo "not ok ten kills: primary after server $turn: could not be killed"
    fi
done
check "ten servers and two primaries killed: every byte of ${MIB} MiB is right" await down
read=$((($(sent) - before) / (MIB * 10486)))
say "read of the servers: $read % of the file"
check "what was read of servers is below 110 % of the file" test "$read" -lt 110
check "the pair recovers" pair_ready
