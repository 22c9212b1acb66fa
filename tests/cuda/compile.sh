#!/usr/bin/env bash
# Compiles every file of kernels/cuda with nvcc for one kind of card, warnings as errors, links the library, and loads it: on
# a machine without a driver it says so and nothing breaks. (make CUDA=1 compiles for all kinds; that takes four times as long.)
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

passed=0 failed=0
check() {
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "cuda-compile: $what failed"; fi
}

if ! deploy/cuda.sh >/dev/null; then
    echo "SKIPPED cuda-compile: no CUDA toolkit, and its wheels could not be fetched"
    echo "0 passed, 0 failed"
    exit 0
fi
one=(BUILD=build-cuda CUDA=1 "CUDA_CODE=arch=compute_90a,code=sm_90a")
objects=()
for f in kernels/cuda/*.cu kernels/cuda/*.c; do objects+=("build-cuda/cuda/${f#kernels/cuda/}.o"); done
make --no-print-directory -k -j"$(nproc)" "${one[@]}" "${objects[@]}"
for o in "${objects[@]}"; do check "$o" make --no-print-directory -q "${one[@]}" "$o"; done
check "the library" make --no-print-directory "${one[@]}" build-cuda/learnd-cuda.so

# Without a driver it is refused in one line; with one it opens, and runs.
loads() {
    local said rc
    said=$(build/tests/ops/ops compare --backend build-cuda/learnd-cuda.so 2>&1)
    rc=$?
    echo "$said" | tail -1
    if [ -e /dev/nvidiactl ]; then return 0; fi
    [ $rc -eq 2 ] && [ "$said" = "ops: CUDA: no NVIDIA driver is installed" ]
}
check "opening it" loads

# cuda_blas.c itself, with loops behind cuBLASLt's interface: what it describes, and that what it chooses keeps a row's bits.
make --no-print-directory -j"$(nproc)" "${one[@]}" build-cuda/lt/shim-lt.so
for mode in "rungs small" grad; do
    read -r -a words <<<"$mode"
    said=$(build/tests/ops/ops "${words[0]}" --backend build-cuda/lt/shim-lt.so "${words[@]:1}" 2>&1)
    check "ops $mode with cuda_blas.c" test $? -eq 0
    echo "$mode: ${said##*$'\n'}"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
