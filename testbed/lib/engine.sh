# shellcheck shell=bash
# The two engines: configuration, starting, signals, asking. Sourced by lab.

config_file() { echo "$LAB_STATE/standin.toml"; }
pid_file() { echo "$LAB_STATE/$1.pid"; }
log_file() { echo "$LAB_STATE/$1.log"; }
socket_file() { echo "$LAB_STATE/$1.sock"; }

write_config() {
    local key=$LAB_STATE/key
    if [[ ! -s $key ]]; then
        (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$key" && echo >> "$key")
    fi
    local socket
    socket=$(socket_file a)
    ((${#socket} <= 107)) || die "set LAB_STATE: the path of the control socket is too long: $socket"
    mkdir -p "$LAB_FILES" "$LAB_STATE/a" "$LAB_STATE/b"
    {
        printf '# Written by lab up.\n[pair]\nkey-file = "%s"\naddresses = ["%s", "%s"]\n' \
            "$key" "$SERVICE4" "$SERVICE6"
        local node
        for node in a b; do
            printf '\n[node.%s]\nlan-interface = "eth0"\nlan-address = "10.77.0.%s"\n' \
                "$node" "${LAST[si-$node]}"
            printf 'replication-address = "10.78.0.%s"\n' "${LAST[si-$node]}"
            printf 'control-socket = "%s"\nstate-directory = "%s"\n' \
                "$(socket_file "$node")" "$LAB_STATE/$node"
        done
        printf '\n[[service]]\nkind = "%s"\nport = %s\n' echo 7 discard 9 chargen 19 files 80
        printf 'root = "%s"\n' "$LAB_FILES"
        local mode
        for mode in 8080:splice:80 8081:join:80 8082:replay:80 8083:journal:80 8084:mirror:8000; do
            printf '\n[[service]]\nkind = "relay"\nport = %s\nmode = "%s"\nbackends = [%s]\n' \
                "${mode%%:*}" "$(cut -d: -f2 <<< "$mode")" "$(backends "${mode##*:}")"
            # Quick, for those who wait for a backend to come or go.
            printf 'check = { interval = "500ms", timeout = "300ms" }\n'
        done
        if [[ -n $LAB_EXTRA ]]; then
            echo
            cat "$LAB_EXTRA"
        fi
    } > "$(config_file).new"
    mv "$(config_file).new" "$(config_file)"
}

# backends PORT: both, in both families.
backends() {
    printf '"10.77.0.%s:%s", ' 21 "$1" 22 "$1"
    printf '"[fd77::%s]:%s", ' 21 "$1" 22 "$1"
}

engine_pid() { living "$(pid_file "$1")"; }

# engine_state NODE: off, stopped, frozen or running.
engine_state() {
    local pid
    if marked "off-$1"; then
        echo off
    elif ! pid=$(engine_pid "$1"); then
        echo stopped
    elif [[ $(process_state "$pid") == [Tt] ]]; then
        echo frozen
    else
        echo running
    fi
}

engine_start() { # NODE
    local node=$1
    [[ -x $STANDIN ]] || die "no engine at $STANDIN (cargo build --release, or set LAB_BIN)"
    if engine_pid "$node" > /dev/null; then
        say "lab: $node is already running"
        return 0
    fi
    if marked "off-$node"; then
        unmark "off-$node"
        apply_links
        wait_until 10 "the links to be ready" links_ready
    fi
    rm -f "$(socket_file "$node")"
    printf -- '--- %(%F %T)T start of %s\n' -1 "$node" >> "$(log_file "$node")"
    STANDIN_LOG=${STANDIN_LOG:-info} RUST_BACKTRACE=1 setsid ip netns exec "si-$node" \
        "$STANDIN" run --config "$(config_file)" --node "$node" \
        ${LAB_CAPTURE:+--capture "$LAB_CAPTURE"} \
        >> "$(log_file "$node")" 2>&1 < /dev/null 9>&- &
    remember_process "$(pid_file "$node")" $! || true
    if ! wait_until 20 "the engine of $node to answer" started_or_dead "$node" ||
        ! engine_pid "$node" > /dev/null; then
        say "lab: the engine of $node did not start; the end of $(log_file "$node"):"
        tail -n 15 "$(log_file "$node")" >&2
        end_process "$(pid_file "$node")" 1
        return 1
    fi
}

started_or_dead() { engine_status "$1" > /dev/null || ! engine_pid "$1" > /dev/null; }

engine_stop() { # NODE
    end_process "$(pid_file "$1")" 10
}

engine_kill() { # NODE
    local pid
    if pid=$(engine_pid "$1"); then
        kill -KILL "$pid" || true
        wait_until 5 "the engine of $1 to die" gone "$(pid_file "$1")"
    fi
    rm -f "$(pid_file "$1")"
}

engine_halt() { # NODE: stopped, if it runs
    local pid
    if pid=$(engine_pid "$1"); then
        kill -STOP "$pid" || true
    fi
}

engine_signal() { # NODE SIGNAL STATE
    local pid
    pid=$(engine_pid "$1") || die "$1 is not running"
    kill -"$2" "$pid"
    wait_until 5 "$1 to be $3" in_state "$1" "$3"
}

in_state() { [[ $(engine_state "$1") == "$2" ]]; }

# engine_status NODE: the engine's own words, as JSON; fails where there is nobody to ask.
engine_status() {
    [[ $(engine_state "$1") == running ]] || return 1
    timeout 2 "$STANDIN" status --json --config "$(config_file)" --node "$1" 2> /dev/null
}

# field NAME: the first value of that name in the JSON on standard input, without its quotes.
field() {
    grep -oE "\"$1\"[[:space:]]*:[[:space:]]*(\"[^\"]*\"|[^,}[:space:]]+)" | head -n 1 |
        sed -E 's/^[^:]*:[[:space:]]*//; s/^"//; s/"$//' || true
}

# primary_node: the node that says it is primary; with two, the one of the later epoch.
primary_node() {
    local node status best='' best_epoch=-1 epoch
    for node in a b; do
        status=$(engine_status "$node") || continue
        [[ $(field role <<< "$status") == primary ]] || continue
        epoch=$(field epoch <<< "$status")
        if ((${epoch:-0} > best_epoch)); then
            best=$node
            best_epoch=${epoch:-0}
        fi
    done
    [[ -n $best ]] && echo "$best"
}

is_duplex() {
    local node
    node=$(primary_node) || return 1
    [[ $(engine_status "$node" | field protected) =~ ^(1|true)$ ]]
}

has_role() { # NODE ROLE
    [[ $(engine_status "$1" | field role) == "$2" ]]
}
