# shellcheck shell=bash
# Two web servers behind relays that mask their death. Sourced after paths.sh, engine.sh.

# serving: which of them has a connection, in a lab with one download.
serving() {
    local host
    for host in be1 be2; do
        if "$LAB" exec "si-$host" ss -Htn state established 'sport = 80' | grep -q .; then
            echo "$host"
            return 0
        fi
    done
    return 1
}

# servers_up PORT…: the primary takes both for up, in both families, for each of these relays.
servers_up() {
    local port said
    said=$("$STANDIN" status --config "$(config_file)" --node "$("$LAB" primary)")
    for port in "$@"; do
        [[ $(grep -E "port $port," <<< "$said" | grep -c 'up true') == 4 ]] || return 1
    done
}
