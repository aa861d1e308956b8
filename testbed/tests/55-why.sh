#!/usr/bin/env bash
# Why not? Whoever asks for the status or a switchover is told what is in the way, and is told so in
# time, also by an engine that is stopped or dead.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/said.sh"

CONFIG=$LAB_STATE/standin.toml

status=("$STANDIN" status --config "$CONFIG" --node)
switchover=("$STANDIN" switchover --config "$CONFIG" --node)

pair_ready
owner=$("$LAB" primary)
other=$([[ $owner == a ]] && echo b || echo a)
check "a fresh pair has no malformed packet" told 0 '"malformed": 0' "${status[@]}" "$owner" --json
check "the status names the peer's state" told 0 '"state": "standby"' "${status[@]}" "$owner" --json
check "the standby's log says that it is synchronised" \
    logged "$other" "synchronised: this node would carry on"

"$LAB" freeze a
check "a stopped engine keeps nobody waiting" told 1 "no answer in 1 s" "${status[@]}" a
check "nor who wants it to do something" told 1 "no answer in 1 s" "${switchover[@]}" a
check "a program is told, too" told 1 '"protected": false' "${status[@]}" a --json
"$LAB" thaw a
check "the pair recovers from the pause" pair_ready

owner=$("$LAB" primary)
other=$([[ $owner == a ]] && echo b || echo a)
"$LAB" exec "si-$other" ip link set dev eth0 down
check "a standby without carrier is named" \
    soon 0 "node $other's LAN interface has no carrier" "${status[@]}" "$owner"
check "and no switchover goes to it" \
    told 1 "node $other's LAN interface has no carrier" "${switchover[@]}" "$owner"
"$LAB" exec "si-$other" ip link set dev eth0 up
"$LAB" kill "$other"
check "a dead engine is named as such" \
    told 1 "no engine runs as node $other here" "${status[@]}" "$other"
check "its peer says what it misses" soon 0 "node $other is silent on both paths" "${status[@]}" "$owner"
check "and why there is no switchover" told 1 "node $other is silent" "${switchover[@]}" "$owner"

"$LAB" exec "si-$other" ip address add "fd77::$([[ $other == a ]] && echo 1 || echo 2)/64" dev eth0 nodad 2> /dev/null || true
"$LAB" exec "si-$other" ip link set dev eth0 mtu 1400
"$LAB" start "$other"
check "hosts with another MTU are no pair, in words" \
    soon 0 "the LAN's MTU is 1400 on node $other and 1500 on node $owner" "${status[@]}" "$owner"
check "and lose nothing by a switchover that is refused" told 1 "--force hands over all the same" "${switchover[@]}" "$owner"
check "both logs say so" logged "$other" "the hosts of the two nodes differ: the LAN's MTU"
check "an operator who insists is obeyed" timeout 15 "${switchover[@]}" "$owner" --force
"$LAB" stop "$other"
"$LAB" exec "si-$other" ip link set dev eth0 mtu 1500
"$LAB" start "$other"
check "the pair is whole at the end" pair_ready
before=$(wc -l < "$LAB_STATE/a.log") after=$(wc -l < "$LAB_STATE/b.log")
owner=$("$LAB" primary)
check "an ordinary switchover" timeout 15 "${switchover[@]}" "$owner"
check "the pair is whole after it" pair_ready
# shellcheck disable=SC2016 # the inner shell expands it
check "an ordinary switchover warns of nothing" bash -c \
    '! { tail -n "+$(($2 + 1))" "$1/a.log"; tail -n "+$(($3 + 1))" "$1/b.log"; } | grep " WARN "' \
    warnings "$LAB_STATE" "$before" "$after"
