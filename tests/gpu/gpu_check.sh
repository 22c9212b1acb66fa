#!/usr/bin/env bash
# Everything that only a card can show, in one go of less than ten minutes (make gpu-check): the case list on the device, golden
# encoders, ten steps of training against the CPU, compute-sanitizer, a soak of lanes and one of the daemon.
# Ends with N passed, N failed, N skipped. Exit: 0; 1: something failed; 2: there is no GPU, nothing ran.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

if ! compgen -G '/dev/nvidia[0-9]*' >/dev/null && [ ! -e /dev/dxg ]; then
    echo "gpu-check: there is no NVIDIA GPU on this machine: nothing ran"
    exit 2
fi
make --no-print-directory -j"$(nproc)" CUDA=1 all tests || exit 1
backend=build/learnd-cuda.so ops=build/tests/ops/ops model=build/tests/gpu/gpu_model
minilm=$(deploy/model.sh 2>/dev/null || true)
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A program whose last line is `N passed, N failed`, or one that is a test whole.
check() {
    local name=$1 limit=$2 from=$SECONDS rc p f
    shift 2
    timeout "$limit" "$@" >"$log" 2>&1
    rc=$?
    read -r p f < <(awk '/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 } END { print p + 0, f + 0 }' "$log")
    if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then f=1; elif [ $rc -eq 0 ] && [ "$p" -eq 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    printf '%-52s %4d passed %3d failed %4d s\n' "$name" "$p" "$f" $((SECONDS - from))
    if [ "$f" -gt 0 ]; then tail -40 "$log"; else grep -E '^soak' "$log"; fi
    return 0
}

skip() {
    echo "SKIPPED $1"
    skipped=$((skipped + 1))
}

for mode in compare rungs grad steady; do check "ops $mode" 120 "$ops" $mode --device "$backend"; done
for folder in tests/golden/tiny-encoder tests/golden/tiny-encoder-cls-f16 ${minilm:+"$minilm"}; do
    check "encoder and ten steps, $(basename "$folder")" 120 "$model" check "$backend" "$folder"
done
[ -n "$minilm" ] || skip "MiniLM: the encoder could not be fetched"
check "golden encoders (test_encoder)" 120 env LEARND_TEST_BACKEND="$backend" build/tests/unit/test_encoder

sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" 2>/dev/null)
if [ -n "$sanitizer" ]; then
    for what in "memcheck compare" "memcheck grad" "racecheck grad"; do
        check "compute-sanitizer ${what% *}, ops ${what#* }" 100 "$sanitizer" --tool "${what% *}" --error-exitcode 9 \
            --print-limit 5 "$ops" "${what#* }" --device "$backend"
    done
else
    skip "compute-sanitizer: no such tool in PATH or \$CUDA_HOME/bin"
fi

check "soak of two lanes, 40 s" 120 "$model" soak "$backend" "${minilm:-tests/golden/tiny-encoder}" 40
check "a daemon on the card (tests/e2e/test_cuda.py)" 120 env LEARND_BIN="$PWD/build/learnd" \
    python3 -m pytest -q -rs -p no:cacheprovider -k cuda:0 tests/e2e/test_cuda.py
echo
echo "$passed passed, $failed failed, $skipped skipped in $SECONDS s"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
