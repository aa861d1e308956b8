# shellcheck shell=bash
# What the scripts need from the system, installed where that is possible. Sourced after common.sh.

# need COMMAND:PACKAGE…: installs the packages of the commands that are missing.
need() {
    local pair missing=() packages=()
    for pair in "$@"; do
        if ! PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" > /dev/null; then
            missing+=("${pair%%:*}")
            packages+=("${pair##*:}")
        fi
    done
    ((${#missing[@]})) || return 0
    say "missing: ${missing[*]}; installing ${packages[*]}"
    local become=()
    if ((EUID != 0)); then
        command -v sudo > /dev/null || die "install ${packages[*]} first: no root rights, no sudo"
        become=(sudo)
    fi
    command -v apt-get > /dev/null || die "install ${packages[*]} first: apt-get is not here"
    local quiet=(env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    "${become[@]}" "${quiet[@]}" update >&2 || true
    "${become[@]}" "${quiet[@]}" install --yes --no-install-recommends "${packages[@]}" >&2 ||
        die "cannot install ${packages[*]}"
}

# need_server COMMAND:PACKAGE…: the same for packages that start a server of their name as soon as
# they are installed: only the program is wanted.
need_server() {
    local pair name
    for pair in "$@"; do
        name=${pair%%:*}
        if ! PATH=$PATH:/usr/sbin:/sbin command -v "$name" > /dev/null; then
            need "$pair"
            if ((EUID == 0)); then
                systemctl disable --now "$name" > /dev/null 2>&1 || true
            else
                sudo systemctl disable --now "$name" > /dev/null 2>&1 || true
            fi
        fi
    done
}

need_rust() {
    command -v cargo > /dev/null || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo > /dev/null || die "cargo is not here: install Rust, https://rustup.rs"
    need cc:gcc
}
