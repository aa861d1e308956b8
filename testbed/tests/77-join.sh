#!/usr/bin/env bash
# The same as of a relay whose connections pass, of one whose connections end at the engine.
set -euo pipefail
RELAY_PORT=8081 RELAY_KIND=connections RELAY_NAME=join exec "${BASH_SOURCE[0]%/*}/75-relay.sh"
