"""--json, for every command there is: what is printed parses, and so does what goes wrong."""
import json
import re
import subprocess

import pytest

from learnd_process import TINY
from test_ctl import FAILED, REFUSED, USAGE, binary, run


def objects(text):
    """One JSON object a line, and nothing else."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(x, dict) for x in found), text
    return found


def names():
    return re.findall(r"^  ([a-z][a-z-]+) +\S", run("--help")[0], re.M)


# What each is called with, so that it has something to say; {..} is filled in. None: see below.
CALLS = {
    "classify": ["a text", "another"],
    "embed": ["a text"],
    "teach": ["b", "new text"],
    "confirm": ["--text", "hello", "--label", "a"],
    "reject": ["--text", "hello", "--label", "b"],
    "withdraw": ["{second}"],
    "forget": ["{third}"],
    "erase": ["--text", "nobody said this", "--yes"],
    "import": ["{file}"],
    "export": ["--format", "jsonl"],
    "eval": ["{file}"],
    "models": [],
    "labels": [],
    "examples": [],
    "versions": [],
    "train": ["strategy=head"],
    "runs": [],
    "cancel": ["{run}"],
    "encoders": [],
    "rollback": ["{version}"],
    "export-encoder": ["{folder}/encoder"],
    "import-encoder": ["{encoder}"],
    "events": ["--limit", "1", "--since", "0-0"],
    "watch": ["--limit", "2", "--every", "0.05"],
    "review": [],
    "next": [],
    "keys": ["me"],
    "audit": [],
    "backup": ["{folder}/backup", "--state", "{state}"],
    "restore": ["{folder}/backup", "--state", "{folder}/restored"],
    "doctor": ["--state", "{state}"],
    "bench": ["--requests", "10"],
    "annotate": [],
    "status": [],
    "version": [],
    "completion": None,  # a script for a shell is no JSON
}
QUIET = {"forget", "cancel", "review", "annotate"}  # may have nothing to say: a 204, an empty list


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One daemon for all of them; they are called in the order of CALLS."""
    from learnd_process import Daemon
    folder = tmp_path_factory.mktemp("json")
    daemon = Daemon(folder / "state", folder / "log", env={"LEARND_TRAIN": "manual"}).start()
    rows = [("hello", "a"), ("bye", "b"), ("later", "b")]
    ids = [x["example"] for x in daemon.teach(rows)["accepted"]]
    daemon.settle()
    (folder / "rows.jsonl").write_text("".join(
        json.dumps({"text": f"row {i}", "label": "ab"[i % 2]}) + "\n" for i in range(6)))
    fill = {"second": ids[1], "third": ids[2], "file": folder / "rows.jsonl", "folder": folder,
            "encoder": TINY, "state": daemon.state, "run": 1, "version": "0.0"}
    yield daemon, fill
    daemon.kill9()


def call(name, place, *more):
    daemon, fill = place
    args = [a.format(**fill) for a in CALLS[name]]
    return subprocess.run([binary(), name, *args, *more, "--json", "--url", daemon.url],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=120, check=False)


def test_every_command_is_here():
    """A new command comes with its call in CALLS."""
    assert set(names()) == set(CALLS)


@pytest.mark.parametrize("name", [n for n in CALLS if CALLS[n] is not None])
def test_prints_json(place, name):
    """Done: objects on stdout, of stderr only notes. Refused: an error on stderr says so."""
    done = call(name, place)
    printed = objects(done.stdout)
    said = objects(done.stderr)
    if done.returncode == 0:
        assert printed or name in QUIET, done
        assert all(set(x) == {"note"} for x in said), done.stderr
    else:
        assert [x for x in said if "error" in x], (done.returncode, done.stdout, done.stderr)
    for x in said:
        check(x)


def check(said):
    """The shape that learnctl(1) promises."""
    if "note" in said:
        assert set(said) == {"note"} and isinstance(said["note"], str)
        return
    error = said["error"]
    assert set(said) == {"error"} and set(error) == {"code", "detail", "field", "status"}
    assert re.fullmatch(r"[a-z0-9_]+", error["code"]) and isinstance(error["detail"], str)
    assert error["field"] is None or isinstance(error["field"], str)
    assert error["status"] is None or 400 <= error["status"] < 600


@pytest.mark.parametrize("name", list(CALLS))
def test_wrong_use(name):
    """A flag that is not there, in each: exit 2, one error, nothing on stdout."""
    out, err = run(name, "--json", "--no-such-flag", code=USAGE)
    (said,) = objects(err)
    check(said)
    assert said["error"]["code"] == "usage" and out == ""
    _, err = run(name, "--no-such-flag", code=USAGE)
    assert err.startswith("learnctl: ") and "no-such-flag" in err


LOCAL = {"backup", "restore", "doctor", "version", "completion"}  # of a folder, or of nothing


@pytest.mark.parametrize("name", [n for n in CALLS if n not in LOCAL])
def test_nobody_there(place, name):
    """Exit 3 and the code `unreachable`, of every command that needs a daemon."""
    _, fill = place
    args = [a.format(**fill) for a in CALLS[name]]
    out, err = run(name, *args, "--json", "--url", "http://127.0.0.1:1", code=FAILED)
    errors = [x for x in objects(err) if "error" in x]
    assert errors and errors[-1]["error"]["code"] == "unreachable", err
    for x in objects(err):
        check(x)
    assert objects(out) == [] or name == "import"


def test_codes():
    """learnctl's own words for what goes wrong before a daemon is asked."""
    for args, code, word in ((["nonsense"], USAGE, "usage"), (["models", "--url", "ftp://x"], USAGE, "usage"),
                             (["models", "--key-file", "/none"], USAGE, "file"),
                             (["classify", "-f", "/none"], USAGE, "file"),
                             (["models", "--color", "red"], USAGE, "usage"),
                             (["status", "--timeout", "x"], USAGE, "usage")):
        _, err = run(*args, "--json", code=code)
        (said,) = objects(err)
        check(said)
        assert said["error"]["code"] == word, (args, err)


def test_a_field_is_named(place):
    daemon, _ = place
    _, err = run("next", "--seed", "x", "--json", "--url", daemon.url, code=REFUSED)
    (said,) = objects(err)
    check(said)
    assert said["error"]["field"] == "seed" and said["error"]["status"] == 422
