# shellcheck shell=bash
# Two Redis servers on the same input, each in a backend's namespace, on port 8000 of both families.
# Sourced after paths.sh, common.sh, scene.sh; the lab is up.

REDIS=$LAB_STATE/redis
MIRROR=8084

# redis_begin HOST [OPTION…]: empty, and without a disk.
redis_begin() {
    local host=$1
    shift
    mkdir -p "$REDIS/$host"
    "$LAB" exec "si-$host" redis-server --port 8000 --bind 0.0.0.0 :: --protected-mode no \
        --dir "$REDIS/$host" --save '' --appendonly no --daemonize yes \
        --pidfile "$REDIS/$host/pid" --logfile "$REDIS/$host/log" "$@" > /dev/null
    wait_until 5 "Redis to answer in $host" redis_answers "$host"
}

redis_answers() { "$LAB" exec "si-$1" redis-cli -p 8000 ping 2> /dev/null | grep -q PONG; }

redis_pid() { cat "$REDIS/$1/pid" 2> /dev/null; }

# redis_signal HOST SIGNAL
redis_signal() {
    local pid
    pid=$(redis_pid "$1") || return 0
    "$LAB" exec "si-$1" kill "-$2" "$pid" 2> /dev/null || true
}

# redis_end HOST: killed; what it had is gone.
redis_end() {
    local host=$1 pid
    pid=$(redis_pid "$host") || return 0
    redis_signal "$host" KILL
    wait_until 5 "Redis to end in $host" redis_ended "$host" "$pid"
    rm -f "$REDIS/$host/pid"
}

redis_ended() { ! "$LAB" exec "si-$1" ps -o comm= -p "$2" | grep -q redis; }

# redis_own HOST COMMAND…: asks the server itself, past the pair.
redis_own() {
    local host=$1
    shift
    "$LAB" exec "si-$host" redis-cli -p 8000 "$@"
}

# both_answer: both run, and the pair knows it.
both_answer() {
    local host
    for host in be1 be2; do
        redis_answers "$host" || redis_begin "$host" || return 1
    done
    wait_until 10 "both servers to be up" servers_up "$MIRROR"
}

# alike: what each of them holds is the same.
alike() {
    local one other
    one=$(redis_own be1 --scan | sort | while read -r key; do
        echo "$key $(redis_own be1 --no-raw get "$key")"
    done)
    other=$(redis_own be2 --scan | sort | while read -r key; do
        echo "$key $(redis_own be2 --no-raw get "$key")"
    done)
    [[ -n $one && $one == "$other" ]]
}
