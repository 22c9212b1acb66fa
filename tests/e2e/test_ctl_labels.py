"""learnctl labels: every act, its words and its exit codes."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from learnd_process import ROOT

OK, REFUSED, USAGE = range(3)


@pytest.fixture
def ctl(shared, model):
    """learnctl for a model of its own: its (stdout, stderr), or with --json the objects it printed."""
    binary = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEARNCTL_")}
    env.update(LEARNCTL_URL=shared.url, LEARNCTL_MODEL=model)

    def call(*args, code=OK):
        done = subprocess.run([str(binary), *args], env=env, capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == code, (args, done)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr
        if "--json" in args and code == OK:
            return [json.loads(line) for line in done.stdout.splitlines()]
        return done.stdout, done.stderr

    shared.teach([("one", "a"), ("two", "a"), ("three", "b"), ("four", "c/d")], model=model)
    return call


def test_every_act(ctl):
    (row,) = ctl("labels", "rename", "c/d", "c", "--json")
    assert row["label"] == "c" and row["aliases"] == ["c/d"]
    assert ctl("labels", "retire", "c") == ("", "")
    assert ctl("labels", "retire", "c/d") == ("", "")  # by its old name, and twice
    (row,) = ctl("labels", "restore", "c", "--json")
    assert row["status"] == "active"
    (row,) = ctl("labels", "set", "a", "score_min=0.5", 'payload={"say":["hello"]}', "--json")
    assert row["score_min"] == 0.5 and row["payload"] == {"say": ["hello"]}
    (row,) = ctl("labels", "set", "a", "payload=see you", "--json")
    assert row["payload"] == "see you" and row["score_min"] == 0.5
    (row,) = ctl("labels", "set", "a", "payload=", "score_min=", "--json")
    assert row["payload"] is None and row["score_min"] is None
    (row,) = ctl("labels", "merge", "b", "a", "--json")
    assert row["label"] == "a" and row["examples"] == 3
    ids = [e["example"] for e in ctl("examples", "--label", "b", "--json")]
    (row,) = ctl("labels", "split", "a", "new", *ids[:2], "--json")
    assert row["label"] == "new" and row["examples"] == 2


def test_what_a_person_sees(ctl):
    ctl("labels", "rename", "a", "alpha")
    ctl("labels", "merge", "b", "alpha")
    out, err = ctl("labels", "set", "alpha", "payload=hello", "score_min=0.25")
    assert err == "" and out.splitlines()[1].split()[:5] == ["alpha", "3", "active", "0.25", "yes"]
    out, _ = ctl("labels")
    assert out.splitlines()[1].rstrip().endswith("a, b")
    assert "now alpha" in out and "c/d" in out


def test_what_is_refused(ctl):
    for args, code, said in (
            (("labels", "rename", "a", "b"), REFUSED, "label_exists"),
            (("labels", "restore", "a"), REFUSED, "label_active"),
            (("labels", "retire", "none"), REFUSED, "unknown_label"),
            (("labels", "merge", "a", "a"), REFUSED, "invalid_value"),
            (("labels", "set", "a", "score_min=2"), REFUSED, "out_of_range"),
            (("labels", "set", "a", "colour=red"), USAGE, "colour=red"),
            (("labels", "set", "a"), USAGE, "usage:"),
            (("labels", "split", "a", "new"), USAGE, "usage:"),
            (("labels", "rename", "a"), USAGE, "usage:"),
            (("labels", "explode", "a"), USAGE, "explode"),
    ):
        out, err = ctl(*args, code=code)
        assert out == "" and said in err, (args, err)
    ctl("labels", "retire", "b")
    assert "labels restore" in ctl("labels", "merge", "a", "b", code=REFUSED)[1]
    out, err = ctl("labels", "merge", "a", "b", "--json", code=REFUSED)
    assert json.loads(err)["error"]["code"] == "label_retired"
