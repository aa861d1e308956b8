# shellcheck shell=bash
# The engine of the version before this one, built from the repository's own history. Sourced after
# paths.sh, common.sh.

EARLIER_COMMIT=552bf352d8fbcf51acb7c7adfa22a9ee0da4a42a # the last with version 3 of the protocol
EARLIER=$TARGET/earlier-${EARLIER_COMMIT::7}/release    # its LAB_BIN

# earlier_config: leaves out of the configuration what the earlier version does not know. Both nodes have
# to be started anew. config_back undoes it.
earlier_config() {
    cp "$(config_file)" "$(config_file).whole"
    awk -v RS= -v ORS='\n\n' '!/mode = "(join|replay|journal)"/' "$(config_file).whole" | sed '/^mode = /d' \
        > "$(config_file)"
}

config_back() {
    [[ ! -e $(config_file).whole ]] || mv "$(config_file).whole" "$(config_file)"
}

# earlier_built: makes it, once. What both versions depend on is compiled once: of the two directories
# of Cargo's only that of the results is another.
earlier_built() {
    local top=${EARLIER%/release}
    if [[ ! -x $EARLIER/standin ]]; then
        git -C "$ROOT" cat-file -e "$EARLIER_COMMIT^{commit}" 2> /dev/null ||
            die "the history of this clone does not reach back to $EARLIER_COMMIT: git fetch --unshallow"
        say "building the engine of $EARLIER_COMMIT"
        mkdir -p "$top/source"
        git -C "$ROOT" archive "$EARLIER_COMMIT" | tar -x -C "$top/source"
        CARGO_BUILD_BUILD_DIR=$TARGET CARGO_TARGET_DIR=$top cargo build --quiet --release --locked \
            --workspace --bin standin --manifest-path "$top/source/Cargo.toml" >&2
    fi
    ln -sf "$DRILL" "$EARLIER/standin-drill"
}
