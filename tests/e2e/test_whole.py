"""export --everything and back into an empty daemon: the same examples, votes and labels, and scores
equal to 1e-6."""
import json
import subprocess

import pytest

from learnd_process import Daemon
from state_folder import LESSONS, OK, REFUSED, USAGE, ctl, files, learnctl
from test_doctor import teach_everything

PROBES = ["where is my card", "my purse", "rain and sun", "snow today", "hello", "old news"]


def rows(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.ndjson").read_text().splitlines()]


def served(d, model):
    d.settle(model)
    answer = d.ask(PROBES, top_k=100, model=model, store=False)
    return [{s["label"]: s["score"] for s in r["labels"]} for r in answer["results"]]


def close(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for label, score in a.items():
            assert score == pytest.approx(b[label], abs=1e-6), (label, a, b)


def votes_of(folder):
    """What annotators say, without when."""
    found = {}
    for row in rows(folder, "examples"):
        votes = sorted(json.dumps({k: v for k, v in vote.items() if k != "created_us"})
                       for vote in row["votes"])
        if votes:
            target = sorted((t["label"], round(t["share"], 9)) for t in row["target"])
            found[row["model"], row.get("text"), row.get("text_pair")] = (
                votes, target, row["status"], row["weight"], row["held_out"], row["example"])
    return found


def labels_of(folder):
    return {(r["model"], r["label"]): (r["status"], r.get("aliases"), r.get("score_min"),
                                       r.get("payload")) for r in rows(folder, "labels")
            if r["status"] != "merged"}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    d = Daemon(folder / "state", folder / "log").start()
    teach_everything(d)
    d.patch("/v1/models/default/labels/card", {"score_min": 0.25, "payload": {"a": [1, "x"]}})
    d.patch("/v1/models/default/labels/sky", {"label": "heaven"})
    d.post("/v1/models", {"name": "points", "encoder": "none", "dim": 4,
                          "settings": {"features": 128, "seed": 9}}, expect=201)
    d.teach([{"vector": [1, 0, 0, 0], "label": "x"}, {"vector": [0, 0.6, 0.8, 0], "label": "y"}],
            model="points")
    d.teach([(f"card number {i}", "card") for i in range(20)] +
            [(f"purse number {i}", "lost") for i in range(20)])
    ctl("train", "steps_max=3", "--force", "--watch", daemon=d)
    d.patch("/v1/models/default", {"settings": {"annotator_rate_max": 5}})
    yield d
    try:
        d.stop()
    finally:
        d.kill9()


@pytest.mark.sanitizer
def test_there_and_back(taught, make_daemon, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    _, err = ctl("export", "--everything", one, "--state", taught.state)
    assert "3 models" in err and "1 encoders" in err
    assert not (tmp_path / "one.partial").exists()
    assert "encoders/1/model.safetensors" in files(one)
    assert {r["run"] for r in rows(one, "runs")} == {1}
    assert [r["reason"] for r in rows(one, "versions") if r["model"] == "default"] == \
        ["run", "created"]
    fresh = make_daemon("fresh").start()
    _, err = ctl("import", "--everything", one, daemon=fresh)
    assert "3 models" in err
    ctl("export", "--everything", two, "--state", fresh.state)
    assert votes_of(two) == votes_of(one)
    assert labels_of(two) == labels_of(one)
    for name in "default", "many":
        close(served(fresh, name), served(taught, name))
    vectors = {"inputs": [{"vector": [0.8, 0.6, 0, 0]}], "model": "points", "top_k": 5}
    for d in fresh, taught:
        d.settle("points")
    a, b = (d.post("/v1/classify", vectors)["results"][0]["labels"] for d in (fresh, taught))
    assert a == b
    for name in "default", "many", "points":
        assert fresh.get(f"/v1/models/{name}")["settings"] == \
            taught.get(f"/v1/models/{name}")["settings"]
    _, err = ctl("import", "--everything", one, daemon=fresh, code=REFUSED)
    assert "is not empty" in err
    ctl("doctor", "--deep", "--state", fresh.state)


def test_bad_input(taught, make_daemon, tmp_path):
    (tmp_path / "there").mkdir()
    _, err = ctl("export", "--everything", tmp_path / "there", "--state", taught.state, code=USAGE)
    assert "File exists" in err
    _, err = ctl("export", "--everything", tmp_path / "x", "--state", tmp_path / "no", code=USAGE)
    assert "no/learnd.db" in err and not (tmp_path / "x").exists()
    for args in ("export", "--everything"), ("import", "--everything"):
        _, err = ctl(*args, code=USAGE)
        assert "folder" in err
    fresh = make_daemon("fresh").start()
    _, err = ctl("import", "--everything", tmp_path / "there", daemon=fresh, code=USAGE)
    assert "models.ndjson" in err
    ctl("export", "--everything", tmp_path / "good", "--state", taught.state)
    models = tmp_path / "good" / "models.ndjson"
    whole = models.read_text()
    for bad, what in (("{", "models.ndjson:4:"), ("[1]", "is not an object")):
        models.write_text(whole + bad + "\n")
        _, err = ctl("import", "--everything", tmp_path / "good", daemon=fresh, code=USAGE)
        assert what in err
        assert fresh.get("/v1/models/default/labels")["labels"] == []
    models.write_text(whole)
    fresh.teach(LESSONS)
    _, err = ctl("import", "--everything", tmp_path / "good", daemon=fresh, code=REFUSED)
    assert "default is not empty" in err


def test_beside_a_daemon_and_interrupted(taught, tmp_path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "models.ndjson").write_text("half")
    done = subprocess.run([learnctl(), "export", "--everything", str(tmp_path / "x"), "--state",
                           str(taught.state), "--quiet"], capture_output=True, text=True,
                          check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (OK, "", "")
    assert len(rows(tmp_path / "x", "models")) == 3
