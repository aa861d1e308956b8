# shellcheck shell=bash
# Where things are. Sourced first; each may be set from outside.
#
#   LAB_STATE  state of the lab: configuration, key, logs, process ids
#   LAB_BIN    directory of the binaries standin and standin-drill
#   LAB_FILES  what the service `files` serves
#   LAB_EXTRA  a file with more configuration, appended (say, a [timing] table)
#   LAB_CAPTURE  what engines that are started write down from their first packet on: run --capture

PATH=$PATH:/usr/sbin:/sbin
ROOT=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
LAB=$ROOT/testbed/lab
LAB_STATE=${LAB_STATE:-$TARGET/lab}
LAB_BIN=${LAB_BIN:-$TARGET/release}
LAB_FILES=${LAB_FILES:-$LAB_STATE/files}
LAB_EXTRA=${LAB_EXTRA:-}
LAB_CAPTURE=${LAB_CAPTURE:-}
export LAB_STATE LAB_BIN LAB_FILES LAB_EXTRA LAB_CAPTURE

SERVICE4=10.77.0.100
SERVICE6=fd77::100
STANDIN=$LAB_BIN/standin
DRILL=$LAB_BIN/standin-drill
export ROOT TARGET LAB SERVICE4 SERVICE6 STANDIN DRILL
