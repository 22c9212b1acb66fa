#!/usr/bin/env bash
# Every benchmark of one build, as tables and as CSV beside the build. Usage: tests/bench/bench.sh [BUILD]
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build}
export LEARND_SHARED=${LEARND_SHARED:-$PWD/../shared}
if [ -z "${LEARND_ENCODER:-}" ]; then LEARND_ENCODER=$(deploy/model.sh) && export LEARND_ENCODER; fi
"$build/tests/bench/bench_peak" --csv "$build/bench-peak.csv"
echo
"$build/tests/bench/bench_train_ops"
echo
OMP_WAIT_POLICY=passive "$build/tests/bench/bench_train" --threads "$(nproc)"
echo
python3 tests/bench/bench.py --build "$build" --csv "$build/bench.csv"
echo "CSV: $build/bench.csv $build/bench-peak.csv"
