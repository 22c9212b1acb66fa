#!/usr/bin/env bash
# What only tests use and apt does not bring as it is wanted, in one folder of the cache, where tests/e2e/tools.py finds it:
#   promtool    of Debian's package prometheus, which is unpacked and not installed: it would start a service
#   venv        a Python environment with tensorboard and schemathesis
#   selenium    Python packages that drive a browser, for the python3 that runs the tests
#   axe.min.js  axe-core, which finds what keeps people out of a web page; a Python package brings it
# Says what it does; does nothing when all is there. What cannot be had is said, and its tests skip.
# Usage: deploy/test_tools.sh
set -euo pipefail

want="tensorboard==2.21.0 schemathesis==4.32.5"
selenium="selenium==4.51.0"
axe="axe-playwright-python==0.1.8" axe_sha256=fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8
folder=${XDG_CACHE_HOME:-$HOME/.cache}/learnd/test-tools
mkdir -p "$folder"

promtool() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    fetch=(apt-get download -qq -o APT::Sandbox::User=root prometheus)
    "${fetch[@]}" >/dev/null 2>&1 || {
        apt-get update -qq || true # the list of packages is old, or none; only root may
        "${fetch[@]}" >/dev/null
    }
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    mv usr/bin/promtool "$folder/promtool.new"
    mv "$folder/promtool.new" "$folder/promtool"
)

environment() {
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    # shellcheck disable=SC2086  # one word a package
    "$folder/venv/bin/pip" install -q --disable-pip-version-check $want
    echo "$want" >"$folder/venv/made-of"
}

browser() (
    work=$(mktemp -d "$folder/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --target "$work/selenium" "$selenium"
    echo "$selenium" >"$work/selenium/made-of"
    rm -rf "$folder/selenium"
    mv "$work/selenium" "$folder/selenium"
)

axe() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download -q --disable-pip-version-check --no-deps --dest "$work" "$axe"
    echo "$axe_sha256  $(ls "$work"/*.whl)" | sha256sum --check --quiet
    python3 -m zipfile -e "$work"/*.whl "$work/out"
    mv "$work/out/axe_playwright_python/axe.min.js" "$folder/axe.min.js"
)

if [ ! -x "$folder/promtool" ]; then
    echo "deps: fetching promtool: it checks deploy/alerts.yml and the page of metrics"
    promtool || echo "deps: promtool cannot be had; its tests will skip" >&2
fi
if [ "$(cat "$folder/venv/made-of" 2>/dev/null)" != "$want" ]; then
    echo "deps: making $folder/venv: $want"
    environment || echo "deps: the environment cannot be made; its tests will skip" >&2
fi
if [ "$(cat "$folder/selenium/made-of" 2>/dev/null)" != "$selenium" ]; then
    echo "deps: fetching $selenium: tests drive the web page with it"
    browser || echo "deps: selenium cannot be had; the web page's tests will skip" >&2
fi
if [ ! -e "$folder/axe.min.js" ]; then
    echo "deps: fetching axe-core (${axe/==/ }): may everyone use the web page?"
    axe || echo "deps: axe-core cannot be had; its test will skip" >&2
fi
