# shellcheck shell=bash
# Clients in a lab that is up: started, awaited, ended, judged. Sourced after paths.sh, common.sh.
#
# A client is a standin-drill in si-client. Its report, output and process id are files of its
# name in $SCENE.

SCENE=${SCENE:-$LAB_STATE/scene}
mkdir -p "$SCENE"
declare -A CLIENTS=()

client() { "$LAB" exec si-client "$@"; }

# begin NAME COMMAND…: starts a drill, and returns at once.
begin() {
    local name=$1
    shift
    launch "$name" "$DRILL" "$@"
}

# launch NAME PROGRAM OPTION…: the same for any program that takes --json and --ready.
launch() {
    local name=$1
    shift
    rm -f "$SCENE/$name".{json,ready,out}
    client "$@" --json "$SCENE/$name.json" --ready "$SCENE/$name.ready" \
        > "$SCENE/$name.out" 2>&1 < /dev/null &
    CLIENTS[$name]=$!
}

# ready NAME…: waits until every connection of these is open and has moved a byte.
ready() {
    local name
    for name in "$@"; do
        wait_until 20 "the connections of $name" ready_or_dead "$name" || return 1
        if [[ ! -s $SCENE/$name.ready ]]; then
            tail -n 5 "$SCENE/$name.out" >&2
            return 1
        fi
    done
}

ready_or_dead() { [[ -s $SCENE/$1.ready ]] || ! kill -0 "${CLIENTS[$1]}" 2> /dev/null; }

# finish NAME: tells a drill to end in order; fails unless every byte was right.
finish() {
    local name=$1 pid
    if [[ -s $SCENE/$name.ready ]]; then
        pid=$(< "$SCENE/$name.ready")
        if kill -0 "${CLIENTS[$name]}" 2> /dev/null; then
            client kill -INT "$pid" 2> /dev/null || true
        fi
    fi
    await "$name"
}

# await NAME: as finish, for a drill that ends by itself.
await() {
    local name=$1 code=0
    wait "${CLIENTS[$name]}" || code=$?
    unset "CLIENTS[$name]"
    ((code == 0)) || tail -n 8 "$SCENE/$name.out" >&2
    return "$code"
}

# give_up: ends every client that still runs, at once.
give_up() {
    local name pid
    for name in "${!CLIENTS[@]}"; do
        pid=$(cat "$SCENE/$name.ready" 2> /dev/null) || pid=
        if [[ -n $pid ]]; then
            client kill -KILL "$pid" 2> /dev/null || true
        fi
        kill -KILL "${CLIENTS[$name]}" 2> /dev/null || true
        wait "${CLIENTS[$name]}" 2> /dev/null || true
        unset "CLIENTS[$name]"
    done
}

# served: echo over both families, from new clients.
served() {
    local address
    for address in "$SERVICE4" "$SERVICE6"; do
        # shellcheck disable=SC2016 # the inner shell expands it
        client timeout 2 bash -c 'exec 3<> "/dev/tcp/$1/7" && echo hello >&3 && read -r line <&3 && [[ $line == hello ]]' \
            talk "$address" 2> /dev/null || return 1
    done
}

# Both engines run and a failure of the primary would lose nothing.
pair_ready() {
    local node
    for node in a b; do
        "$LAB" heal "$node"
        if [[ $("$LAB" status | sed -n "s/^$node  *\([a-z]*\) .*/\1/p") == frozen ]]; then
            "$LAB" thaw "$node"
        fi
        "$LAB" start "$node" 2> /dev/null
    done
    "$LAB" wait duplex 30
}

other() { if [[ $1 == a ]]; then echo b; else echo a; fi; }

is_primary() { [[ $("$LAB" primary 2> /dev/null) == "$1" ]]; }

# harm FAULT NODE
harm() {
    case $1 in
        kill | freeze | poweroff) "$LAB" "$1" "$2" ;;
        cut-lan) "$LAB" cut "$2" lan ;;
        cut-repl) "$LAB" cut "$2" repl ;;
        switchover)
            "$LAB" exec "si-$2" "$STANDIN" switchover --config "$LAB_STATE/standin.toml" --node "$2"
            ;;
        *) die "no fault '$1'" ;;
    esac
}

# check NAME COMMAND…: runs one test and says how it went, in a line that testbed/test counts.
check() {
    local name=$1
    shift
    if "$@"; then
        echo "ok $name"
    else
        echo "not ok $name"
    fi
}
