# shellcheck shell=bash
# What every section of testbed/bench uses: samples, panels, the four contestants, the report.
# Sourced after scene.sh.
#
# A section writes lines of words between tabs into $OUT/SECTION.tsv; standin-chart makes of them
# the table, the JSON and the picture (tools/src/chart/samples.rs says what the lines are).

OUT=$TARGET/bench
SECONDS_EACH=${SECONDS_EACH:-4}
CHART=$LAB_BIN/standin-chart
# Where kernel TCP answers, and where HAProxy does, which hands on to the former.
DIRECT=10.77.0.21
PROXY=10.77.0.22
mkdir -p "$OUT"

line() { local IFS=$'\t'; printf '%s\n' "$*" >> "$OUT/$SECTION.tsv"; }

# section NAME TITLE: what is measured from here on belongs to it.
section() {
    SECTION=$1
    rm -f "$OUT/$SECTION".{tsv,json,md,svg,png,txt}
    line title "$2"
}

panel() { line panel "$@"; }     # NAME UNIT higher|lower BASELINE
compare() { line compare "$@"; } # PANEL SERIES SERIES: one more ratio, first by second
sample() { line sample "$@"; }   # PANEL CASE SERIES VALUE

# report: the section's table, and its files.
report() {
    machine_lines
    "$CHART" "$OUT/$SECTION.tsv" --json "$OUT/$SECTION.json" --markdown "$OUT/$SECTION.md" \
        --svg "$OUT/$SECTION.svg" | tee "$OUT/$SECTION.txt"
    if command -v rsvg-convert > /dev/null; then
        rsvg-convert --zoom 1.5 --output "$OUT/$SECTION.png" "$OUT/$SECTION.svg"
    fi
    echo "values, tables and picture: $OUT/$SECTION.json, .md, .svg"
    echo
}

# rounds COUNT COMMAND…: runs it so often, and says how far it is.
rounds() {
    local number count=$1
    shift
    for ((number = 1; number <= count; number++)); do
        "$@"
        printf '\r%s: %d of %d' "$SECTION" "$number" "$count" >&2
    done
    echo >&2
}

# The four in turn; COMMAND is given the name of each.
everyone() { # COMMAND
    "$1" kernel
    "$1" haproxy
    both_modes "$1"
}

# Only the pair, in both modes.
both_modes() { # COMMAND
    alone
    "$1" simplex
    together
    "$1" duplex
}

address_of() {
    case $1 in
        kernel) echo "$DIRECT" ;;
        haproxy) echo "$PROXY" ;;
        *) echo "$SERVICE4" ;;
    esac
}

alone() {
    STANDBY=$(other "$("$LAB" primary)")
    "$LAB" stop "$STANDBY"
    wait_until 10 "the pair to be simplex" is_simplex
}

together() {
    "$LAB" start "$STANDBY"
    "$LAB" wait duplex 30
}

is_simplex() { ! "$LAB" wait duplex 0 2> /dev/null && "$LAB" primary > /dev/null; }
