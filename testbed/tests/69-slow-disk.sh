#!/usr/bin/env bash
# A document root on a file system that needs 200 ms for every call: whoever asks for a file waits for it,
# and nobody else does; no node is taken for dead. Without caches, so that every request gets there.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"
. "$here/lib/crowd.sh"

DISK=$SCENE/slow-disk
READERS=20
EACH=4

# The namespace that an engine is started in has mounts of its own.
slow_disks() {
    rm -rf "$DISK"
    mkdir -p "$DISK"/{files,bin}
    cat > "$DISK/bin/standin" << END
#!/bin/sh
if [ "\$1" = run ]; then
    python3 "$here/lib/slowfs.py" "$DISK/files" "$LAB_FILES" 200 &
    until grep -q '^slowfs $LAB_FILES ' /proc/self/mounts; do
        kill -0 \$! || exit 1
        sleep 0.02
    done
fi
exec "$STANDIN" "\$@"
END
    chmod +x "$DISK/bin/standin"
    ln -s "$DRILL" "$DISK/bin/standin-drill"
    local node file
    for ((file = 0; file < READERS * EACH; file++)); do
        "$DRILL" make-file "$DISK/files/slow-$file" --bytes 300KiB --seed 9 > /dev/null
    done
    for node in a b; do
        "$LAB" stop "$node"
    done
    export LAB_BIN=$DISK/bin
}

clean_up() {
    give_up
    crowds_end
    LAB_BIN=${STANDIN%/*}
    for node in a b; do
        "$LAB" stop "$node"
    done
    rm -rf "$DISK"
}

# read_slowly: every reader asks for files that nobody has asked for, one after the other.
read_slowly() {
    local reader jobs=() job bad=0
    for ((reader = 0; reader < READERS; reader++)); do
        # shellcheck disable=SC2016 # the inner shell expands it
        client bash -c 'for ((file = $1; file < $1 + $2; file++)); do
            curl --silent --show-error --fail --max-time 40 "http://$3/slow-$file" | cmp - "$4/slow-$file" || exit 1
        done' reader "$((reader * EACH))" "$EACH" "$SERVICE4" "$DISK/files" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do
        wait "$job" || bad=$((bad + 1))
    done
    ((bad == 0)) || { say "$bad of $READERS readers failed"; return 1; }
}

# It was the file system that was slow: the first byte of a file takes a few of its calls.
is_slow() {
    local took
    took=$(client curl --silent --fail --output /dev/null --write-out '%{time_starttransfer}' "http://$SERVICE4/slow-0")
    awk -v took="$took" 'BEGIN { exit took < 0.4 }' || { say "a file was there after $took s"; return 1; }
}

trap clean_up EXIT
slow_disks
check "the pair starts on slow disks" pair_ready
keep_watch
check "the disk is slow" is_slow
probe_begin 20
check "files come from a slow disk, every byte right" read_slowly
check "whoever asks for no file waits for no disk" probed_within 50
check "no node took over" nobody_took_over
