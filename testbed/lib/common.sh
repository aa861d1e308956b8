# shellcheck shell=bash
# Words that every script here uses. Sourced; expects `set -euo pipefail`.

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }
usage_error() { say "${0##*/}: $*"; exit 2; }

# now_ms: a clock in milliseconds.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }

# wait_until SECONDS WHAT COMMAND…: polls until the command succeeds; fails and says WHAT was
# awaited when it did not in time.
wait_until() {
    local limit=$(($(now_ms) + $1 * 1000)) what=$2
    shift 2
    until "$@"; do
        if (($(now_ms) >= limit)); then
            say "${0##*/}: gave up waiting: $what"
            return 1
        fi
        read -rt 0.02 <> <(:) || true
    done
}

# A process is known by its id and its start time: ids are used again.
start_time() { # PID
    local stat
    { stat=$(< "/proc/$1/stat"); } 2> /dev/null || return 1
    # The name, in parentheses, may hold anything; the state is the first field behind it.
    # shellcheck disable=SC2086 # into words, please
    set -- ${stat##*) }
    [[ $1 != Z && $1 != X ]] && echo "${20}"
}

process_state() { # PID: the letter of proc(5)
    local stat
    { stat=$(< "/proc/$1/stat"); } 2> /dev/null || return 1
    stat=${stat##*) }
    echo "${stat%% *}"
}

remember_process() { # FILE PID
    local started
    started=$(start_time "$2") || return 1
    echo "$2 $started" > "$1"
}

# living FILE: prints the id of the process in FILE if it still is that process.
living() {
    local pid started
    read -r pid started 2> /dev/null < "$1" || return 1
    [[ -n $pid && $(start_time "$pid") == "$started" ]] && echo "$pid"
}

gone() { ! living "$1" > /dev/null; }

# end_process FILE SECONDS: asks the process in FILE to end, and insists after SECONDS.
end_process() {
    local pid
    if pid=$(living "$1"); then
        kill -TERM "$pid" 2> /dev/null || true
        kill -CONT "$pid" 2> /dev/null || true
        if ! wait_until "$2" "process $pid to end" gone "$1"; then
            kill -KILL "$pid" 2> /dev/null || true
            wait_until 5 "process $pid to die" gone "$1"
        fi
    fi
    rm -f "$1"
}
