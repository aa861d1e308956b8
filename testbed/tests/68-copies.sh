#!/usr/bin/env bash
# Files of which each host has a copy of its own: alike at other times, and different at the same
# length and time. What is not compared by its content is not protected, and is never continued.
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$here/lib/paths.sh"
. "$here/lib/common.sh"
. "$here/lib/scene.sh"
. "$here/lib/net.sh"
. "$here/lib/engine.sh"

COPIES=$SCENE/copies
MIB=${COPIES_MIB:-48}

# Each engine sees its own copy where the configuration has the document root: the namespace that
# it is started in has mounts of its own.
own_copies() {
    rm -rf "$COPIES"
    mkdir -p "$COPIES"/{a,b,bin}
    cat > "$COPIES/bin/standin" << END
#!/bin/sh
if [ "\$1" = run ]; then
    case " \$* " in *" --node a "*) node=a ;; *) node=b ;; esac
    mount --bind "$COPIES/\$node" "$LAB_FILES"
fi
exec "$STANDIN" "\$@"
END
    chmod +x "$COPIES/bin/standin"
    ln -s "$DRILL" "$COPIES/bin/standin-drill"
    local node
    for node in a b; do
        "$LAB" stop "$node"
    done
    export LAB_BIN=$COPIES/bin
}

# made NAME OTHER: a copy for each, the second written a day before. OTHER: its last byte differs, and
# nothing else, the times included.
made() {
    local node
    for node in a b; do
        "$DRILL" make-file "$COPIES/$node/$1" --bytes "${MIB}MiB" --seed 7 > /dev/null
    done
    touch -d yesterday "$COPIES/b/$1"
    if [[ $2 == other ]]; then
        printf '\377' | dd of="$COPIES/b/$1" bs=1 seek=$((MIB * 1048576 - 1)) conv=notrunc status=none
        touch -r "$COPIES/a/$1" "$COPIES/b/$1"
    fi
    # A reply from a file that was written to this very moment is never protected.
    sleep 0.5
}

download() { # NAME
    begin download files "$SERVICE4" --path "/$1" --seed-content 7 --length "${MIB}MiB" \
        --bytes "${MIB}MiB" --rate 8MiB --stall 20s
    ready download
}

protects() { # true|false
    [[ $(engine_status "$("$LAB" primary)" | field protected) == "$1" ]]
}

# From a file that nobody has seen to a download that outlives the primary.
drill() { # FAULT
    pair_ready || return 1
    local old
    old=$("$LAB" primary)
    made "drill-$1.bin" alike
    download "drill-$1.bin" || return 1
    wait_until 5 "the download to be protected" protects true || return 1
    harm "$1" "$old" || return 1
    await download
}

differs() { # FAULT
    pair_ready || return 1
    local old heir
    old=$("$LAB" primary) heir=$(other "$old")
    made "other-$1.bin" other
    download "other-$1.bin" || return 1
    sleep 1
    protects false || { say "a download that cannot go on is called protected"; return 1; }
    grep -q "not protected: file \"other-$1.bin\": " "$LAB_STATE/$heir.log" ||
        { say "the log does not name the file"; return 1; }
    if [[ $1 == switchover ]]; then
        # Refused, since it would lose this one; or done, and then it is lost.
        harm "$1" "$old" || { give_up; return 0; }
    else
        harm "$1" "$old" || return 1
    fi
    # Not to its end, and no wrong byte up to there.
    if await download 2> /dev/null; then
        say "it went on"
        return 1
    fi
    if grep -q "wrong byte" "$SCENE/download".{out,json}; then
        say "a wrong byte"
        return 1
    fi
    [[ $(engine_status "$heir" | field not_continued) -ge 1 ]] ||
        { say "the reset is not counted"; return 1; }
    grep -q "cannot be continued: file \"other-$1.bin\": " "$LAB_STATE/$heir.log"
}

trap give_up EXIT
own_copies
check "copies of other times: a download outlives a kill" drill kill
check "copies of other times: a download outlives a switchover" drill switchover
for fault in kill poweroff switchover; do
    check "copies of other content, $fault: not protected, not continued" differs "$fault"
    give_up
done
for node in a b; do
    "$LAB" stop "$node"
done
unset LAB_BIN
rm -rf "$COPIES"
check "the pair recovers" pair_ready
