#!/usr/bin/env bash
# schemathesis over proto/openapi.json against a live daemon of build/ (or LEARND_BIN): ends with 0 if it found nothing and the
# daemon stopped cleanly. Usage: tests/e2e/schemathesis_run.sh [SECONDS] [SEED]
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600} seed=${2:-20261125}
../../deploy/test_tools.sh
echo "schemathesis: $seconds s, seed $seed"
exec python3 schemathesis_run.py "$seconds" "$seed"
