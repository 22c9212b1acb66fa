#!/usr/bin/env bash
# Runs every test of one build and ends with one line: N passed, N failed, N skipped.
# Usage: tests/run.sh [BUILD]   (build, build-asan, build-tsan)
# shellcheck disable=SC2016  # awk programs
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
export LEARND_BIN=${LEARND_BIN:-$PWD/$build/learnd} LEARNCTL_BIN=${LEARNCTL_BIN:-$PWD/$build/learnctl}
export LEARND_SHARED=${LEARND_SHARED:-$PWD/../shared}
export LEARND_ENCODER=${LEARND_ENCODER:-${XDG_CACHE_HOME:-$HOME/.cache}/learnd/all-MiniLM-L6-v2}
export ASAN_OPTIONS=abort_on_error=0:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp"
# Teams of libgomp are invisible to TSan and full of its false alarms; our own threads are what it is for.
case $build in build-tsan*) export OMP_THREAD_LIMIT=1 ;; esac
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a program and adds the counts that the awk program finds in its output.
count() {
    local name=$1 limit=$2 script=$3
    shift 3
    timeout "$limit" "$@" >"$log" 2>&1
    local rc=$? p f s
    read -r p f s < <(awk "$script"' END { print p + 0, f + 0, s + 0 }' "$log")
    if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-44s %4d passed %3d failed %3d skipped\n' "$name" "$p" "$f" "$s"
    if [ "$f" -gt 0 ]; then
        echo "---- $name (exit $rc)"
        tail -200 "$log"
        echo "----"
    fi
    grep -iE '^(skip|SKIPPED)' "$log" || true
}

cmocka='/^\[  PASSED  \]/ { p += $4 } /^\[  FAILED  \] [0-9]+ test/ { f += $4 } /^\[  SKIPPED \] [0-9]+ test/ { s += $4 }'
tally='/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }'
# (Tests that fail every allocation in turn have one thread, and take ten times as long under TSan; fibers it does not know.)
for t in "$build"/tests/unit/test_*; do
    case $t in build-tsan/*_faults | build-tsan/*/test_cuda_graphs) continue ;; esac
    [ -x "$t" ] && [ ! -d "$t" ] && [ "${t%.o}" = "$t" ] && [ "${t%.d}" = "$t" ] && count "$t" 600 "$cmocka" "$t"
done
# (One thread's arithmetic, in slow motion under TSan: that build leaves it to the others. Once more as on a machine below
# AVX-512, where own loops stand in for oneDNN's.)
ops=$build/tests/ops/ops
if [ -x "$ops" ] && [ "$build" != build-tsan ]; then
    for mode in compare rungs grad steady; do
        count "$ops $mode" 600 "$tally" "$ops" $mode
        count "$ops $mode (AVX2)" 600 "$tally" env DNNL_MAX_CPU_ISA=AVX2 "$ops" $mode
    done
    # The GPU's kernels, on the host (not under TSan, which does not know fibers). Once more with a block's threads last to
    # first, by the way that takes plain memory to a device and back.
    shim=$build/tests/cuda/shim-cuda.so
    for mode in compare grad; do
        count "$ops $mode (CUDA kernels on the host)" 600 "$tally" "$ops" $mode --backend "$shim"
        [ "$build" = build ] &&
            count "$ops $mode (CUDA kernels, reversed, apart)" 600 "$tally" env LEARND_SHIM_REVERSED=1 "$ops" $mode --device "$shim"
    done
    [ "$build" = build ] && count "gpu_model check (CUDA kernels on the host)" 600 "$tally" "$build/tests/gpu/gpu_model" check "$shim" tests/golden/tiny-encoder
fi
for seed in 1 2 3 4 5; do
    [ -x "$build/tests/sim/sim" ] && count "$build/tests/sim/sim $seed" 600 "$tally" "$build/tests/sim/sim" $seed 400
done
for t in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$t" ] && [ "${t%.o}" = "$t" ] && [ "${t%.d}" = "$t" ] &&
        count "$t" 600 "$tally" "$t" "tests/fuzz/corpus/$(basename "$t" | sed s/fuzz_//)"
done
[ "$build" = build ] && count "cuda-compile (sm_90a)" 900 "$tally" tests/cuda/compile.sh
[ "$build" = build ] && [ -x tests/tidy_test.sh ] && count tests/tidy_test.sh 300 "$tally" tests/tidy_test.sh

pytest='/(passed|failed|skipped|error)/ && / in [0-9.]+s/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^error/) f += $(i-1); if ($i ~ /^skipped/) s += $(i-1) } }'
suites=()
for d in tests/e2e tests/crash; do ls "$d"/test_*.py >/dev/null 2>&1 && suites+=("$d"); done
if [ ${#suites[@]} -gt 0 ]; then
    mark=()
    case $build in build) ;; *) mark=(-m sanitizer) ;; esac
    count "pytest ${suites[*]}" 2400 "$pytest" python3 -m pytest -q -rs -p no:cacheprovider "${mark[@]}" "${suites[@]}"
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
