#!/usr/bin/env bash
# Finds a CUDA 13 toolkit (nvcc, cuBLASLt) and prints where it is: $CUDA_HOME, /usr/local/cuda, or the pinned 13.0 wheels,
# fetched once into the cache folder (520 MB to fetch, 820 MB on disk). No driver and no GPU is needed to build.
# Usage: deploy/cuda.sh [--cached]   (--cached: fetch nothing; exits 1 where there is none)
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/learnd
folder=$cache/cuda-13.0
pinned="\
56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03 nvidia-cuda-nvcc==13.0.88
2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4 nvidia-cuda-crt==13.0.88
c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0 nvidia-nvvm==13.0.88
e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649 nvidia-cuda-cccl==13.0.85
7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548 nvidia-cuda-runtime==13.0.96
0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c nvidia-cublas==13.0.2.14"

# What the build needs of a toolkit; an older one is named and passed over.
fits() {
    [ -x "$1/bin/nvcc" ] && [ -e "$1/include/cublasLt.h" ] || return 1
    "$1/bin/nvcc" --version | grep -q 'release 1[3-9]\.' && return 0
    echo "cuda: $1 is older than 13.0 and not used" >&2
    return 1
}

for home in "${CUDA_HOME:-}" /usr/local/cuda "$folder"; do
    if [ -n "$home" ] && fits "$home"; then
        echo "$home"
        exit 0
    fi
done
if [ "${1:-}" = --cached ]; then
    echo "cuda: no toolkit in \$CUDA_HOME, /usr/local/cuda or $folder" >&2
    exit 1
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch-cuda.XXXXXX")
trap 'rm -rf "$work"' EXIT
while read -r sum package; do
    echo "cuda: fetching $package" >&2
    rm -rf "$work/wheel"
    if ! python3 -m pip download --disable-pip-version-check --no-deps --quiet --dest "$work/wheel" "$package" >&2; then
        echo "cuda: $package could not be fetched; a toolkit of 13.0 or later in CUDA_HOME serves as well" >&2
        exit 1
    fi
    if ! echo "$sum  $(ls "$work"/wheel/*.whl)" | sha256sum --check --quiet; then
        echo "cuda: $package is not the pinned file; nothing was installed" >&2
        exit 1
    fi
    echo "cuda: unpacking $package" >&2
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/out"
done <<<"$pinned"
# A wheel keeps no mode bits, and no names without a version.
root=$work/out/nvidia/cu13
chmod +x "$root"/bin/* "$root"/nvvm/bin/*
ln -s lib "$root/lib64"
mv "$root" "$folder"
echo "$folder"
