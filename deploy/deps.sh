#!/usr/bin/env bash
# Installs what learnd is built from and tested with, on Debian and Ubuntu. Says what is missing and why; does nothing when
# nothing is. Usage: deploy/deps.sh [run|test|fuzz]   (test needs what run needs, and more)
set -euo pipefail

want=${1:-run}
need=()
why=()
add() {
    need+=("$1")
    why+=("$2")
}

add gcc "the compiler"
add make "the build"
add binutils "ar"
add libuv1-dev "the event loop"
add libjansson-dev "JSON"
add libsqlite3-dev "the store"
add libdnnl-dev "matrix work of the encoder (oneDNN)"
add libopenblas-dev "algebra of the head"
add libutf8proc-dev "Unicode"
add nettle-dev "SHA-256"
add libcurl4-openssl-dev "learnctl"
add libjs-chart.js "charts of the web page, built into the daemon"
add gzip "the web page is packed when it is built"
add ca-certificates "fetching the encoder"
add python3 "fetching the encoder"
add python3-pip "fetching the encoder"
# llhttp: a library where the release has it, else the C sources that node-llhttp brings.
if [ ! -e /usr/include/llhttp.h ] && [ ! -e /usr/share/llhttp/llhttp.c ]; then
    if apt-cache show libllhttp-dev >/dev/null 2>&1; then add libllhttp-dev "HTTP"; else add node-llhttp "HTTP"; fi
fi
if [ "$want" != run ]; then
    add g++ "the GPU's kernels, tested on the host"
    add libcmocka-dev "unit tests"
    add python3-pytest "end-to-end tests"
    add python3-requests "end-to-end tests"
    add python3-jsonschema "end-to-end tests: answers against openapi.json"
    add git "the house rules look at what is tracked"
    add mandoc "the man pages are checked with it"
    add zsh "learnctl's completion is tried in it"
    add fish "learnctl's completion is tried in it"
    add dpkg-dev "make deb: what the programs need"
    add systemd "its unit, its sockets, its package are tested with it"
    add util-linux "a name space to start systemd in"
    add iproute2 "the loopback of that name space"
    add libseccomp2 "the unit's filter, where no systemd can be started"
    add curl "what people use, in tests of what they see"
    add haproxy "the proxy of deploy/haproxy.cfg"
    add openssl "a certificate for it"
    add python3-venv "end-to-end tests: tensorboard and schemathesis"
    add nodejs "the README's program in JavaScript"
    add chromium "the web page is tested in it"
    add chromium-driver "tests drive it"
fi
if [ "$want" = fuzz ]; then
    add clang "libFuzzer"
    add "libclang-rt-$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-//p' | head -1)-dev" "libFuzzer's runtime"
fi

missing=()
for i in "${!need[@]}"; do
    if ! dpkg-query -W -f='${Status}' "${need[$i]}" 2>/dev/null | grep -q 'install ok installed'; then
        missing+=("${need[$i]}")
        echo "deps: ${need[$i]} is missing: ${why[$i]}"
    fi
done
# What tests use that is no package: at the end, since it needs some of them.
others() {
    [ "$want" != test ] || exec "$(dirname "$0")/test_tools.sh"
    exit 0
}
[ ${#missing[@]} -eq 0 ] && others

root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps: neither root nor sudo: install these packages and try again: ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "deps: installing ${missing[*]}"
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# The list of packages may have been empty before the update: llhttp is looked for once more.
if [ ! -e /usr/include/llhttp.h ] && [ ! -e /usr/share/llhttp/llhttp.c ]; then
    "${root[@]}" apt-get install -y -qq --no-install-recommends libllhttp-dev >/dev/null 2>&1 ||
        "${root[@]}" apt-get install -y -qq --no-install-recommends node-llhttp >/dev/null
fi
others
