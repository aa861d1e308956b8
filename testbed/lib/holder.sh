# shellcheck shell=bash
# The lab without root: a process holds a user namespace in which we are, and in it the mounts,
# the processes and the networks of the lab. Every verb enters it. Sourced by lab.

HOLDER=$LAB_STATE/holder.pid

# Runs this script again where it has the rights it needs; returns if it has them already.
enter_lab() { # VERB ARGUMENTS…
    if ((EUID == 0)) || [[ -n ${LAB_INSIDE:-} ]]; then
        return 0
    fi
    local pid
    if ! pid=$(living "$HOLDER"); then
        case $1 in
            up) ;;
            down | status) return 0 ;; # there is no lab
            *) die "the lab is not up (lab up)" ;;
        esac
        make_holder
        pid=$(living "$HOLDER") || die "the process that holds the lab's namespaces died at once"
    fi
    local inside=(nsenter --target "$pid" --user --preserve-credentials --mount --net --pid
        env LAB_INSIDE=1 "$LAB" "$@")
    exec 9>&- # the lab inside takes the lock itself
    [[ $1 == down ]] || exec "${inside[@]}"
    local code=0
    "${inside[@]}" || code=$?
    end_holder
    exit "$code"
}

make_holder() {
    local unshared=(unshare --user --map-root-user --mount --net --pid --fork --mount-proc)
    local why
    if ! why=$("${unshared[@]}" true 2>&1); then
        say "lab: without root, user namespaces are needed, and this kernel refuses: $why"
        say "     Run as root, or allow them, whichever of these exists here:"
        say "       sysctl -w kernel.unprivileged_userns_clone=1            (Debian)"
        say "       sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        say "       sysctl -w user.max_user_namespaces=10000"
        exit 1
    fi
    [[ -r /dev/net/tun && -w /dev/net/tun ]] ||
        die "no right to use /dev/net/tun: as root, modprobe tun and chmod 666 /dev/net/tun"
    rm -f "$LAB_STATE/holder.ready"
    # Bash as first process: it waits for whoever loses its parent.
    # shellcheck disable=SC2016 # the inner shell expands it
    setsid "${unshared[@]}" --kill-child bash -c '
        mount -t tmpfs tmpfs /run && mkdir /run/netns && : > "$1/holder.ready" || exit 1
        while :; do sleep 3600 & wait $!; done' lab-holder "$LAB_STATE" \
        < /dev/null > "$LAB_STATE/holder.log" 2>&1 9>&- &
    local outer=$! inner=
    wait_until 10 "the namespaces to be made" test -e "$LAB_STATE/holder.ready" ||
        die "$(cat "$LAB_STATE/holder.log")"
    # The file has no end of line.
    read -r inner _ < "/proc/$outer/task/$outer/children" || true
    remember_process "$HOLDER" "$inner"
}

# With the first process of its process namespace everything in it ends.
end_holder() {
    local pid
    if pid=$(living "$HOLDER"); then
        kill -KILL "$pid"
        wait_until 5 "the lab's namespaces to end" gone "$HOLDER"
    fi
    rm -f "$HOLDER" "$LAB_STATE/holder.ready" "$LAB_STATE/holder.log"
}
