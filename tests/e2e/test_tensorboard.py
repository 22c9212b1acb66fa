"""Runs as TensorBoard event files, read back by the `tensorboard` package itself. What goes wrong
with them costs a warning and never the run."""
import json
import math
import os
import resource
import signal
import subprocess

import pytest

import tools
from learnd_process import run as learnd
from test_runs import ended, texts, until

READ = """
import json, sys
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
many = EventMultiplexer().AddRunsFromDirectory(sys.argv[1])
many.Reload()
print(json.dumps({run: {tag: [[e.step, e.value, e.wall_time] for e in many.Scalars(run, tag)]
                        for tag in tags["scalars"]} for run, tags in many.Runs().items()}))
"""
STEPS = 6
TRAIN = {f"train/{t}" for t in ("loss", "loss_new", "loss_old", "loss_distill", "loss_feature", "lr",
                                "grad_norm", "examples_per_second")}


def board(folder):
    """{run: {tag: [[step, value, wall time], ..]}} as TensorBoard reads it."""
    done = subprocess.run([tools.python(), "-c", READ, str(folder)], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def tune(daemon, model="default", **fields):
    if fields.get("strategy") != "head":
        fields["steps_max"] = STEPS
    run = daemon.post(f"/v1/models/{model}/runs", {"force": True, **fields}, 202)["run"]
    row = ended(daemon, run)
    assert row["state"] in ("accepted", "refused"), row
    return row


def in_training(daemon, run, step=1):
    """Until the run has done so many steps."""
    while True:
        row = daemon.get(f"/v1/runs/{run}")
        assert not row["ended"], row
        if row["phase"] == "training" and (row["step"] or 0) >= step:
            return row["step"]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "board"
    path.mkdir()
    return path


def test_tensorboard_reads_what_runs_write(make_daemon, folder):
    daemon = make_daemon(args=["--tensorboard", folder]).start()
    daemon.post("/v1/models", {"name": "other.model"}, expect=201)
    rows = {}
    for model in ("default", "other.model"):
        daemon.teach(list(texts(200)), model=model)
        rows[f"{model}/run-{len(rows) + 1}"] = tune(daemon, model)
    daemon.teach(list(texts(60, seed=2)))
    rows["default/run-3"] = tune(daemon, strategy="replay")
    rows["default/run-4"] = tune(daemon, strategy="head")
    daemon.stop()
    seen = board(folder)
    assert set(seen) == set(rows)
    for name, row in rows.items():
        tags, verdict = seen[name], row["verdict"]
        gate = {t: v for t, v in tags.items() if t.startswith("gate/")}
        for tag, value in (("gate/accuracy_old", verdict["accuracy_old"]),
                           ("gate/accuracy_new", verdict["accuracy_new"]),
                           ("gate/items", verdict["items"]), ("gate/won", verdict["won"])):
            ((_, found, _),) = gate[tag]
            assert math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-6), (name, tag)
        train = {t: v for t, v in tags.items() if t.startswith("train/")}
        if row["strategy"] == "head":
            assert not train
            continue
        assert set(train) == TRAIN
        for tag, points in train.items():
            assert [p[0] for p in points] == list(range(1, STEPS + 1)), (name, tag)
        whole = {m["step"]: m for m in row["metrics"]}
        for step, loss, when in train["train/loss"]:
            assert loss > 0 and math.isclose(loss, whole[step]["loss"], rel_tol=1e-5)
            assert abs(when - os.stat(folder).st_mtime) < 3600
        assert all(p[1] > 0 for p in train["train/grad_norm"] + train["train/examples_per_second"])
        replays = row["strategy"] == "replay"
        assert any(p[1] > 0 for p in train["train/loss_distill"]) == replays
        assert any(p[1] > 0 for p in train["train/loss_old"]) == replays


def test_a_run_that_goes_on_after_a_restart(make_daemon, folder):
    """Each of its lives has a file; together they are one curve."""
    daemon = make_daemon(args=["--tensorboard", folder]).start()
    daemon.teach(list(texts(200)))
    run = daemon.post("/v1/models/default/runs", {"steps_max": 700, "epochs": 100, "force": True},
                      202)["run"]
    in_training(daemon, run)
    daemon.restart()
    row = ended(daemon, run)
    assert row["state"] == "accepted" and row["progress"]["resumed"], row
    daemon.stop()
    files = list((folder / "default" / f"run-{run}").iterdir())
    assert len(files) == 2
    (tags,) = board(folder).values()
    steps = [p[0] for p in tags["train/loss"]]
    assert sorted(set(steps)) == list(range(1, row["steps"] + 1))
    assert tags["gate/accuracy_new"]


@pytest.mark.sanitizer
def test_no_folder_costs_a_warning(make_daemon, tmp_path):
    daemon = make_daemon(args=["--tensorboard", tmp_path / "none"]).start()
    daemon.teach(list(texts(120)))
    assert tune(daemon)["state"] == "accepted"
    daemon.stop()
    (line,) = [t for t in daemon.text().splitlines() if "tensorboard_failed" in t]
    assert "level=warn" in line and "No such file" in line and str(tmp_path / "none") in line
    assert not (tmp_path / "none").exists(), "a mistyped folder is not made"


def test_a_folder_that_cannot_be_written(make_daemon, folder):
    """A file stands where the model's folder would be."""
    (folder / "default").write_text("")
    daemon = make_daemon(args=["--tensorboard", folder]).start()
    daemon.teach(list(texts(120)))
    assert tune(daemon)["state"] == "accepted"
    daemon.stop()
    assert daemon.text().count("tensorboard_failed") == 1


def test_a_full_disk_costs_a_warning(make_daemon, folder):
    """The run goes on, and what was written before can be read."""
    daemon = make_daemon(args=["--tensorboard", folder],
                         preexec=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN)).start()
    daemon.teach(list(texts(1000)))
    daemon.settle()
    run = daemon.post("/v1/models/default/runs", {"epochs": 100, "batch": 4}, 202)["run"]
    in_training(daemon, run)
    (file,) = until(lambda: list(folder.glob(f"default/run-{run}/*")))
    unlimited = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 100, unlimited[1]))
    while "tensorboard_failed" not in daemon.text():
        assert daemon.get(f"/v1/runs/{run}")["state"] == "running"
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, unlimited)
    in_training(daemon, run, in_training(daemon, run) + 1)
    daemon.call("DELETE", f"/v1/runs/{run}")
    assert ended(daemon, run)["state"] == "cancelled"
    daemon.stop()
    assert daemon.text().count("tensorboard_failed") == 1
    (tags,) = board(folder).values()
    steps = [p[0] for p in tags["train/loss"]]
    assert steps and steps == list(range(1, len(steps) + 1))


def test_off_by_default_and_bad_values(make_daemon, folder):
    daemon = make_daemon().start()
    daemon.teach(list(texts(120)))
    tune(daemon)
    daemon.stop()
    assert not list(folder.iterdir()) and "tensorboard" not in daemon.text()
    for bad in ("", "x" * 1100):
        done = learnd(f"--tensorboard={bad}", "--check-config")
        assert done.returncode == 2 and "--tensorboard must be a path" in done.stderr, done
