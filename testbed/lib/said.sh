# shellcheck shell=bash
# What commands and engines say. Sourced after scene.sh.

SAID=$SCENE/said.txt

# refused CODE TEXT COMMAND…: the command ends with CODE within 10 s and says TEXT.
refused() { said_within 10 "$@"; }

# told CODE TEXT COMMAND…: the same within 2 s.
told() { said_within 2 "$@"; }

# soon CODE TEXT COMMAND…: the same, tried again for 5 s.
soon() { wait_until 5 "'$2'" told "$@" 2> /dev/null; }

said_within() { # SECONDS CODE TEXT COMMAND…
    local seconds=$1 code=$2 text=$3 got=0
    shift 3
    timeout "$seconds" "$@" > "$SAID" 2>&1 < /dev/null || got=$?
    [[ $got == "$code" ]] && grep -qF -- "$text" "$SAID" && return
    say "expected exit code $code and '$text', got $got and:"
    cat "$SAID" >&2
    return 1
}

# lines NODE: how long its log is.
lines() { wc -l < "$LAB_STATE/$1.log"; }

# logged NODE TEXT [LINES]: NODE's log says TEXT, after that many lines.
logged() { grep -qF -- "$2" <(tail -n "+$((${3:-0} + 1))" "$LAB_STATE/$1.log"); }
