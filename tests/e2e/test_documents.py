"""The commands of README.md, deploy/OPERATING.md and the man pages' examples, run as they stand.

Blocks of ```python and ```js are run by python3 and node. A block of ```sh runs in bash, with -e, in a sandbox: an empty HOME, build/ beside it, learnctl and learnd in PATH, a daemon of
its own for each document on another port (8080 in a document is that one), files that documents speak of. A block that cannot
run has a line before it, `<!-- not run: reason -->`; the reasons are printed. $LEARND_STATE is the daemon's.
"""
import os
import re
import subprocess
import sys

import pytest

from learnd_process import ROOT, TINY, binary as learnd
from test_ctl import binary

MARK = re.compile(r"<!-- not run: (.+?) -->\n+\Z")
FENCE = re.compile(r"^ *```(sh|python|js)\n(.*?)^ *```", re.M | re.S)
PROGRAMS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"],
            "js": ["node", "--input-type=module", "-e"]}
LABELS = {"card_arrival": "where is my card", "lost_card": "I lost my card"}


def markdown_blocks(path):
    """[(line, language, commands, why not)]"""
    text = path.read_text()
    found = []
    for block in FENCE.finditer(text):
        mark = MARK.search(text[:block.start()])
        found.append((text.count("\n", 0, block.start()) + 1, block[1], block[2], mark and mark[1]))
    return found


def man_blocks(path):
    section = re.search(r"^\.Sh EXAMPLES\n(.*?)(?=^\.Sh )", path.read_text(), re.M | re.S)[1]
    return [(0, "sh", block.replace("\\e", "\\").replace("\\&", ""), None) for block in
            re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", section, re.M | re.S)]


@pytest.fixture
def sandbox(make_daemon, tmp_path):
    """(run(commands) -> its output, the folder)"""
    home = tmp_path / "home"
    home.mkdir()
    (home / "build").symlink_to(learnd().parent)
    (home / "deploy").symlink_to(ROOT / "deploy")
    for name in ("train.jsonl", "test.jsonl"):
        (home / name).write_text("".join(
            f'{{"text":"{text} {i}","label":"{label}"}}\n' for label, text in LABELS.items()
            for i in range(5)))
    daemon = make_daemon().start()
    env = {"HOME": str(home), "LEARNCTL_URL": daemon.url, "LEARND_STATE": str(daemon.state),
           "LEARND_ENCODER": str(TINY), "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1",
           "PATH": f"{os.path.dirname(binary())}:{learnd().parent}:/usr/bin:/bin:/usr/sbin:/sbin"}
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]

    def run(commands, language="sh"):
        commands = re.sub(r"(localhost|127\.0\.0\.1):8080", f"127.0.0.1:{daemon.port}", commands)
        done = subprocess.run([*PROGRAMS[language], commands], env=env, cwd=home,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"exit {done.returncode} of\n{commands}\n{done.stdout}"
        return done.stdout

    return run, home


@pytest.mark.parametrize("name", ["README.md", "deploy/OPERATING.md"])
def test_markdown(sandbox, name):
    run, _ = sandbox
    blocks = markdown_blocks(ROOT / name)
    ran = 0
    for line, language, commands, why_not in blocks:
        if why_not:
            print(f"{name}:{line} is not run: {why_not}")
            continue
        print(f"---- {name}:{line}\n{commands}{run(commands, language)}")
        ran += 1
    assert ran >= 2


def test_examples_of_learnctl(sandbox):
    run, _ = sandbox
    blocks = man_blocks(ROOT / "deploy/man/learnctl.1")
    assert len(blocks) >= 4
    for _, _, commands, _ in blocks:
        run(commands)


def test_examples_of_learnd(sandbox):
    """One that checks, and one that would run for ever: it is stopped when it is ready."""
    run, home = sandbox
    check, start = [b[2].strip() for b in man_blocks(ROOT / "deploy/man/learnd.8")]
    assert "--check-config" in check
    run(check)
    assert re.fullmatch(r"learnd --state \./state --listen 127\.0\.0\.1:8080 --listen unix:\S+", start)
    start = start.replace(":8080", ":0")
    run(f"({start} >log 2>&1) & pid=$!\n"
        "until grep -q event=ready log; do kill -0 $pid; sleep 0.05; done\n"
        "learnctl status --url unix:./learnd.sock\nkill $(pgrep -P $pid || echo $pid)\nwait $pid")
    assert "event=ready" in (home / "log").read_text()


def test_example_of_the_configuration(sandbox):
    run, home = sandbox
    ((_, _, text, _),) = man_blocks(ROOT / "deploy/man/learnd.conf.5")
    (home / "learnd.conf").write_text(text)
    run("env -u LEARND_STATE learnd --config learnd.conf --check-config")


def test_marks_have_reasons():
    """The list of what does not run stays short, and each has a reason that says something."""
    marked = [(name, why) for name in ("README.md", "deploy/OPERATING.md")
              for _, _, _, why in markdown_blocks(ROOT / name) if why]
    assert len(marked) <= 8, marked
    assert all(len(why.split()) >= 4 for _, why in marked), marked
