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

need_rust() {
    command -v cargo > /dev/null || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo > /dev/null || die "cargo is not here: install Rust, https://rustup.rs"
    need cc:gcc
}
