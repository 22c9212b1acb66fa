"""learnctl train, runs, cancel, versions, encoders, rollback, export-encoder: words, exit codes.
What the gate says of a run is put there by hand: nothing here waits for a run to train.
"""
import hashlib
import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from learnd_process import ROOT, TINY

OK, REFUSED, USAGE, FAILED, PARTLY, GATE, RUN = range(7)
VERDICT = {"accepted": False, "forced": False, "reasons": ["accuracy", "recall"], "items": 400,
           "lost": 21, "won": 3, "accuracy_old": 0.93, "accuracy_new": 0.885, "difference": -0.045,
           "lower": -0.07, "margin": 0.005, "p": 0.0003, "visible": 0.02, "brier_old": 0.11,
           "brier_new": 0.17, "brier_lower": -0.09, "ece_old": 0.02,
           "ece_new": 0.05, "auroc_old": None, "auroc_new": None, "latency_ratio": 1.02,
           "labels_tested": 2,
           "losses": [{"label": "x", "items": 30, "lost": 12, "won": 0, "p": 0.0002,
                       "p_adjusted": 0.0004}]}


@pytest.fixture
def ctl(daemon):
    binary = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEARNCTL_")}

    def call(*args, code=OK):
        env["LEARNCTL_URL"] = daemon.url
        done = subprocess.run([str(binary), *map(str, args)], env=env, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == code, (args, done)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr
        return done.stdout, done.stderr

    daemon.teach([(f"text {i} {'xy'[i % 2]}", "xy"[i % 2]) for i in range(24)])
    return call


def ended(daemon, state, reason, verdict=None):
    """A run that has ended so, put there while the daemon is down; its number."""
    daemon.stop()
    db = sqlite3.connect(daemon.state / "learnd.db")
    with db:
        db.execute("UPDATE run SET state = 'cancelled', phase = 'done', ended_us = 1"
                   " WHERE state IN ('queued', 'running')")
        run = db.execute("INSERT INTO run(model, strategy, settings, seed, since_seq, parent, state,"
                         " phase, reason, verdict, who, created_us, started_us, ended_us,"
                         " updated_us) VALUES(1, 'joint', '{}', 1, 0, 0, ?, 'done', ?, ?, 'boss',"
                         " 1, 2, 3, 3)",
                         (state, reason, verdict and json.dumps(verdict))).lastrowid
    db.close()
    daemon.start()
    return run


def test_train_and_cancel(ctl, daemon):
    out, err = ctl("train", "--strategy", "replay", "--epochs", "100", "--seed", "3", "--lora-rank",
                   "4", "--margin", "0.01", "--force", "batch=8", "distill=0.25", "--json")
    run = json.loads(out)
    assert err == "" and run["strategy"] == "replay" and run["seed"] == 3
    settings = run["settings"]
    assert settings["lora"]["rank"] == 4 and settings["batch"] == 8 and settings["force"] is True
    assert settings["distill"] == 0.25 and settings["margin"] == 0.01 and settings["epochs"] == 100
    out, _ = ctl("runs")
    assert out.splitlines()[0].split()[:4] == ["run", "model", "strategy", "state"]
    assert out.splitlines()[1].split()[:3] == [str(run["run"]), "default", "replay"]
    while daemon.get(f"/v1/runs/{run['run']}")["ended"] is None:
        ctl("cancel", run["run"])
    assert ctl("cancel", run["run"]) == ("", "")


def test_what_the_daemon_refuses(ctl):
    _, err = ctl("train", "--epochs", "0", code=REFUSED)
    assert "out_of_range" in err and "(epochs)" in err
    _, err = ctl("train", "nobody", code=REFUSED)
    assert "unknown_model" in err
    _, err = ctl("cancel", "999", code=REFUSED)
    assert "unknown_run" in err and "learnctl runs" in err
    _, err = ctl("runs", "999", code=REFUSED)
    assert "unknown_run" in err
    _, err = ctl("rollback", "7", code=REFUSED)
    assert "version_not_held" in err and "learnctl encoders" in err
    _, err = ctl("import-encoder", "/nowhere", code=REFUSED)
    assert "not_an_encoder" in err


def test_wrong_use(ctl):
    for args in (["train", "default", "twice"], ["cancel"], ["rollback"], ["rollback", "a", "b", "c"],
                 ["export-encoder"], ["import-encoder"], ["runs", "1", "2"], ["encoders", "a", "b"],
                 ["versions", "0.1", "--at", "2026-11-24T02:54:35Z"], ["labels", "--watch"]):
        _, err = ctl(*args, code=USAGE)
        assert "usage: learnctl" in err


@pytest.mark.sanitizer
def test_the_verdict_and_the_exit_code(ctl, daemon):
    run = ended(daemon, "refused", "the gate refused it", VERDICT)
    out, err = ctl("runs", run)
    lines = [line.split() for line in out.splitlines()]
    assert ["accuracy", "0.9300", "0.8850", "-0.0450"] in lines
    assert ["novelty", "AUROC", "-", "-", "-"] in lines
    assert ["Brier", "score", "0.1100", "0.1700", "+0.0600"] in lines
    assert "400 texts: 3 won, 21 lost" in out and "at least -0.0700, and may be -0.0050" in out
    assert "x: 12 lost and 0 won of 30" in out
    assert out.endswith("the gate: refused: accuracy, recall\n") and err == ""
    out, _ = ctl("runs", run, "--watch", "--quiet", code=GATE)  # it has ended: no wait
    assert "the gate: refused" in out
    out, _ = ctl("runs", run, "--json", "--watch", code=GATE)
    assert json.loads(out)["verdict"] == VERDICT
    run = ended(daemon, "failed", "the loss was not finite at step 3")
    out, _ = ctl("runs", run, "--watch", code=RUN)
    assert "the loss was not finite" in out and "the gate" not in out
    run = ended(daemon, "accepted", "", {**VERDICT, "forced": True})
    out, _ = ctl("runs", run, "--watch")
    assert out.endswith("recall (forced past it)\n")


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_one_that_is_cancelled(ctl, daemon, terminal):
    """Lines where there is no terminal, a bar where there is one; its end is the exit code."""
    binary = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    ours, theirs = os.openpty() if terminal else os.pipe()
    watch = subprocess.Popen([str(binary), "--url", daemon.url, "train", "--watch", "epochs=100",
                              "batch=1"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"waiting" not in said:  # it is asked for, and watched
        said += os.read(ours, 1000)
    (run,) = daemon.get("/v1/runs?state=queued,running")["runs"]
    while daemon.call("DELETE", f"/v1/runs/{run['run']}").status_code != 204:
        pass
    out, _ = watch.communicate(timeout=120)
    assert watch.returncode == RUN and b"cancelled" in out
    os.close(ours)
    assert (b"\r[" in said) == terminal
    if not terminal:
        assert said.startswith(f"learnctl: run {run['run']}: waiting".encode())


def test_watching_nothing(ctl, daemon):
    ended(daemon, "accepted", "")
    assert ctl("runs", "--watch") == ("", "learnctl: no run is under way\n")
    assert ctl("runs", "--watch", "--quiet") == ("", "")


def test_versions_and_encoders(ctl, daemon):
    out, _ = ctl("versions", "--limit", "0")
    first = out.splitlines()[-1].split()
    assert first[0] == "0.0" and first[2] == "created"
    created = daemon.get("/v1/models/default/versions?limit=1")["versions"][0]["created"]
    out, _ = ctl("versions", "--at", created)
    assert len(out.splitlines()) == 2 and out.splitlines()[1].split()[1] == "live"
    out, _ = ctl("encoders")
    assert out.splitlines()[1].split()[:3] == ["0", "live", "base"]
    out, _ = ctl("encoders", "default", "--json")
    assert json.loads(out)["encoder"] == 0
    for to in ("0", "0.1"):
        out, _ = ctl("rollback", to)
        assert out.splitlines()[1].split()[-1] == "live"
    out, _ = ctl("rollback", "default", "0", "--json")
    assert json.loads(out)["live"] is True


@pytest.mark.sanitizer
def test_export_encoder(ctl, tmp_path):
    out, err = ctl("export-encoder", tmp_path / "out")
    sums = dict(reversed(line.split("  ")) for line in out.splitlines())
    assert err == "" and "model.safetensors" in sums
    for name, sha256 in sums.items():
        content = (tmp_path / "out" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256
        assert content == (TINY / name).read_bytes()
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")
            if p.is_file()} == set(sums)
    (tmp_path / "file").write_text("")
    _, err = ctl("export-encoder", tmp_path / "file", code=USAGE)
    assert "Not a directory" in err


def test_a_model_from_another(ctl):
    out, _ = ctl("models", "create", "next", "from=default")
    assert out.splitlines()[1].split()[:4] == ["next", "0", "0", "0.0"]
