"""Completion of learnctl: the words it offers, and real shells that ask for them."""
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from terminal import SEQUENCE
from learnd_process import ROOT
from test_ctl import COMMANDS, USAGE, binary, run

SCRIPTS = {"bash": "learnctl.bash", "zsh": "_learnctl", "fish": "learnctl.fish"}


def words(*line, url="http://127.0.0.1:1", code=0):
    """What may stand in the place of the last of these words."""
    out, err = run("completion", "words", "--", *line, env={"LEARNCTL_URL": url}, code=code)
    assert err == ""
    return [w.split("\t")[0] for w in out.splitlines()]


def test_commands_and_flags_come_from_the_tables():
    help_text, _ = run("--help")
    names = re.findall(r"^  ([a-z][a-z-]+) +\w", help_text, re.M)
    assert set(COMMANDS) <= set(names)
    assert words("") == [*names, "help"]
    for name in names:
        assert name in words(name[:2])
        shown = set(re.findall(r"^  (?:-\w, |    )(--[a-z][a-z-]+)", run(name, "--help")[0], re.M))
        assert shown <= set(words(name, "--")), name
    assert "--truncate" not in words("teach", "--") and "--json" in words("teach", "--")
    assert words("nonsense", "") == [*names, "help"]


@pytest.mark.sanitizer
def test_values():
    assert words("classify", "--truncate", "") == ["right", "left", "never"]
    assert words("teach", "--wait", "a") == ["applied"]
    assert words("classify", "-f", "") == [":files"] == words("import", "")
    assert words("models", "") == ["show", "create", "set", "delete"]
    assert words("labels", "re") == ["rename", "retire", "restore"]
    assert words("review", "--kind", "") == ["likely_wrong", "contradicting", "duplicate", "influence"]
    assert words("models", "create", "x", "--kind", "m") == ["multi"]
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("classify", "--", "--") == [] and words() == []
    assert words("--json", "cl") == ["classify"]
    assert words("-m", "x", "--quiet", "cl") == ["classify"]


def test_names_are_asked_of_the_daemon(shared, model):
    shared.teach([("a", "my label"), ("b", "other"), ("c", "$(touch x)`")], model=model)
    assert {"my label", "other", "$(touch x)`"} == set(words("-m", model, "teach", "", url=shared.url))
    assert words("-m", model, "classify", "--among", "o", url=shared.url) == ["other"]
    assert words("-m", model, "labels", "merge", "my label", "oth", url=shared.url) == ["other"]
    assert words("--url", shared.url, "models", "show", model) == [model]
    assert words("--model", model[:1] + "", url=shared.url).count(model) == 1
    assert words("-m", model, "rollback", "", url=shared.url)[-1] == "0.0"
    ids = [e["example"] for e in shared.get(f"/v1/models/{model}/examples")["examples"]]
    assert sorted(words("-m", model, "forget", "x", "", url=shared.url)) == sorted(ids)
    assert words("-m", "nope", "teach", "", url=shared.url) == []
    # nobody there: nothing, quietly, and soon
    assert words("-m", "x", "teach", "") == []
    assert words("-m", "x", "teach", "", url="http://203.0.113.1:9") == []


def test_the_scripts_in_the_tree_are_the_programs():
    """make install takes them from there."""
    for shell, name in SCRIPTS.items():
        assert run("completion", shell)[0] == (ROOT / "deploy" / "completion" / name).read_text()


def test_bad_input():
    _, err = run("completion", code=USAGE)
    assert "which shell" in err
    _, err = run("completion", "tcsh", code=USAGE)
    assert "tcsh" in err
    run("completion", "bash", "zsh", code=USAGE)


# ---- real shells


def need(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"SKIPPED: {shell} is not there; deploy/deps.sh test installs it")


class Shell:
    """An interactive shell in a terminal, with learnctl in its PATH."""

    def __init__(self, args, home, env):
        self.leader, follower = pty.openpty()
        own = {"PATH": f"{os.path.dirname(binary())}:{os.environ['PATH']}", "HOME": str(home),
               "TERM": "dumb", "LC_ALL": "C.UTF-8", "PS1": "ready> ", **env}
        self.process = subprocess.Popen(args, stdin=follower, stdout=follower, stderr=follower,
                                        env=own, cwd=home, preexec_fn=os.setsid)
        os.close(follower)
        self.shown = ""

    def type(self, text):
        os.write(self.leader, text.encode())

    def wait(self, pattern, seconds=60):
        until = time.monotonic() + seconds
        while not re.search(pattern, SEQUENCE.sub("", self.shown)):
            assert time.monotonic() < until, f"no {pattern!r} in:\n{self.shown}"
            if select.select([self.leader], [], [], 0.1)[0]:
                self.shown += os.read(self.leader, 65536).decode("utf-8", "replace")
        found, self.shown = self.shown, ""
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)


def check_shell(shell, model):
    """The same in each: a command, a flag, a value, a label with a blank, a file."""
    shell.type("learnctl classi\t")
    shell.wait(r"classi(\x07)*fy ")
    shell.type("--trunc\t")
    shell.wait("(--trunc)?ate ")
    shell.type("ri\t")
    shell.wait("(ri)?ght ")
    shell.type("\x15")  # the line away
    shell.type(f"learnctl -m {model} teach my\t")
    shell.wait(r"(my)?\\ label ")
    shell.type("\x15learnctl classify -f some-f\t")
    shell.wait(r"(some-f)?ile\.txt ")


@pytest.fixture
def labelled(shared, model, tmp_path):
    shared.teach([("a", "my label"), ("b", "other")], model=model)
    (tmp_path / "some-file.txt").write_text("x\n")
    return {"LEARNCTL_URL": shared.url}, model, tmp_path


def test_bash(labelled):
    env, model, home = labelled
    need("bash")
    with Shell(["bash", "--norc", "--noprofile", "-i"], home, env) as shell:
        shell.type("source <(learnctl completion bash); echo do''ne\n")
        shell.wait("done")
        check_shell(shell, model)
        shell.type("\x15learnctl -m " + model + " teach 'my\t")
        shell.wait("'?(my)? label' ")


def test_zsh(labelled):
    env, model, home = labelled
    need("zsh")
    with Shell(["zsh", "-f", "-i", "-V"], home, {**env, "TERM": "xterm"}) as shell:
        shell.type("PS1='> '; autoload -Uz compinit; compinit -u -D; source <(learnctl completion "
                   "zsh); bindkey -e; echo do''ne\n")
        shell.wait("\ndone")
        check_shell(shell, model)


def test_fish(labelled):
    """fish says by itself what it would offer."""
    env, model, home = labelled
    need("fish")

    def offers(line):
        own = {"PATH": f"{os.path.dirname(binary())}:{os.environ['PATH']}", "HOME": str(home),
               "LC_ALL": "C.UTF-8", **env}
        done = subprocess.run(
            ["fish", "--no-config", "-c", "learnctl completion fish | source; complete -C $argv[1]",
             line], env=own, cwd=home, capture_output=True, text=True, timeout=60, check=True)
        return [w.split("\t")[0] for w in done.stdout.splitlines()]

    assert offers("learnctl classi") == ["classify"]
    assert offers("learnctl classify --trunc") == ["--truncate"]
    assert offers("learnctl classify --truncate ri") == ["right"]
    assert offers(f"learnctl -m {model} teach my") == ["my\\ label"] or \
        offers(f"learnctl -m {model} teach my") == ["my label"]
    assert "some-file.txt" in offers("learnctl classify -f some-f")
