"""Runs that go through, on the tiny encoder: asked for by learnctl, judged, put in place under
traffic, taken back, carried away and in. (How good they are is for tests/quality.)
"""
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from learnd_process import ROOT, TINY, Daemon

WORDS = {"money": ["card", "bank", "pay"], "animals": ["cat", "dog", "bird"],
         "weather": ["sun", "rain", "wind"]}
FORCED = {"steps_max": 6, "force": True}


def texts(n, seed=1):
    dice = random.Random(seed)
    for i in range(n):
        label = dice.choice(sorted(WORDS))
        words = [dice.choice([*WORDS[label], "the", "of", f"x{dice.randrange(50)}"])
                 for _ in range(6)]
        yield " ".join([*words, str(i)]), label


def ctl(daemon, *args, code=0):
    binary = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEARNCTL_")}
    done = subprocess.run([str(binary), "--url", daemon.url, *map(str, args)], env=env,
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, (args, done)
    return done.stdout


def until(what, seconds=300):
    """The first true value of what()."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def ended(daemon, run):
    def look():
        row = daemon.get(f"/v1/runs/{run}")
        return row if row["ended"] else None
    return until(look)


def live(daemon, encoder, model="default"):
    """Until this encoder serves."""
    until(lambda: daemon.get(f"/v1/models/{model}")["version"].startswith(f"{encoder}."))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A daemon whose model has been through one run: encoder 1 is live."""
    folder = tmp_path_factory.mktemp("tuned")
    daemon = Daemon(folder / "state", folder / "log").start()
    daemon.teach(list(texts(200)))
    run = daemon.post("/v1/models/default/runs", FORCED, 202)["run"]
    row = ended(daemon, run)
    assert row["state"] == "accepted", row
    live(daemon, 1)
    yield daemon
    daemon.stop()


@pytest.mark.sanitizer
def test_a_run_says_all_about_itself(tuned):
    (run,) = tuned.get("/v1/runs?state=accepted&model=default")["runs"][-1:]
    run = tuned.get(f"/v1/runs/{run['run']}")
    assert run["encoder"] == 1 and run["parent"] == 0 and run["phase"] == "done"
    assert 0 < run["from_seq"] <= int(tuned.get("/v1/models/default")["version"].split(".")[1])
    assert run["progress"]["examples"] > 0 and run["progress"]["held_out"] > 0
    verdict = run["verdict"]
    assert verdict["items"] > 0 and 0 <= verdict["accuracy_new"] <= 1
    assert verdict["forced"] is not verdict["accepted"]
    steps = [m["step"] for m in run["metrics"]]
    assert steps == sorted(set(steps)) and len(steps) > 1
    assert all(m["loss"] > 0 and m["lr"] >= 0 for m in run["metrics"])
    (base, one) = tuned.get("/v1/models/default/versions?limit=1")["encoders"][:2]
    assert one["run"] == run["run"] and one["origin"] == "joint" and one["parent"] == 0
    assert one["gate"]["accuracy_new"] == verdict["accuracy_new"]
    assert base["state"] == "base" and one["sha256"] != base["sha256"]


def test_metrics_count_runs(tuned):
    def read():
        lines = tuned.call("GET", "/metrics").text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
    page = until(lambda: (page := read())["learnd_run_under_way"] == "0" and page)
    assert float(page["learnd_runs_total"]) >= 1 and float(page["learnd_runs_accepted_total"]) >= 1
    assert float(page["learnd_run_steps_total"]) >= FORCED["steps_max"]
    assert float(page["learnd_run_examples_total"]) >= float(page["learnd_run_steps_total"])
    assert float(page["learnd_runs_failed_total"]) == 0


@pytest.mark.sanitizer
def test_back_and_forth_under_traffic(tuned):
    """No answer fails, each names a version, and the names are those of the two encoders."""
    stop, seen, failed = threading.Event(), set(), []

    def ask():
        import requests
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                answer = session.post(tuned.url + "/v1/classify", json={"inputs": "cat and dog"},
                                      timeout=60)
                if answer.status_code != 200:
                    failed.append(answer.text)
                else:
                    seen.add(answer.json()["version"])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for encoder in (0, 1, 0, 1):
            answer = tuned.call("POST", "/v1/models/default/rollback", {"encoder": encoder})
            assert answer.status_code in (200, 202)
            live(tuned, encoder)
            again = tuned.post("/v1/models/default/rollback", {"encoder": encoder}, 200)
            assert again["live"] is True
    finally:
        stop.set()
        thread.join()
    assert failed == [] and {v.split(".")[0] for v in seen} == {"0", "1"}
    versions = tuned.get("/v1/models/default/versions?limit=4")["versions"]
    assert [v["reason"] for v in versions] == ["rollback"] * 4
    for version in versions:
        at = tuned.get(f"/v1/models/default/versions?at={version['created']}")
        assert at["versions"][0]["version"] == version["version"]


def test_what_was_taught_since_stays(tuned):
    tuned.post("/v1/models/default/rollback", {"encoder": 0}, None)
    live(tuned, 0)
    tuned.teach([("zebra unheard of", "money")])
    tuned.post("/v1/models/default/rollback", {"version": "1.1"}, None)
    live(tuned, 1)
    (row,) = tuned.get("/v1/models/default/examples?q=zebra")["examples"]
    assert row["label"] == "money"
    because = tuned.ask("zebra unheard of", explain=True)["results"][0]["because"]
    assert because[0]["text"] == "zebra unheard of"


@pytest.mark.sanitizer
def test_it_is_live_after_a_restart_and_a_kill(tuned):
    question = [t for t, _ in texts(10, seed=9)]
    tuned.settle()
    before = tuned.ask(question)
    assert before["version"].startswith("1.")
    for end in (tuned.stop, tuned.kill9):
        end()
        tuned.start()
        tuned.settle()
        after = tuned.ask(question)
        assert after["version"] == before["version"]
        for a, b in zip(before["results"], after["results"], strict=True):
            assert a["label"] == b["label"] and abs(a["score"] - b["score"]) < 1e-4


def test_out_and_in_again(tuned, tmp_path):
    """An exported encoder imported into a model of its own gives the same vectors there."""
    ctl(tuned, "export-encoder", "default", tmp_path / "out")
    tuned.post("/v1/models", {"name": "taker"}, expect=201)
    tuned.teach(list(texts(60)), model="taker")
    out = ctl(tuned, "import-encoder", "taker", tmp_path / "out", "--force", "--watch", "--quiet",
              "--json")
    run = json.loads(out)
    assert run["state"] == "accepted" and run["strategy"] == "import"
    live(tuned, run["encoder"], "taker")
    question = {"inputs": [t for t, _ in texts(5, seed=3)]}
    ours = tuned.post("/v1/embed", {**question, "model": "default"})["embeddings"]
    theirs = tuned.post("/v1/embed", {**question, "model": "taker"})["embeddings"]
    assert ours == theirs
    base = tuned.post("/v1/models", {"name": "plain"}, expect=201)["name"]
    assert tuned.post("/v1/embed", {**question, "model": base})["embeddings"] != ours


HUGGING_FACE = """
import json, sys
import torch
from transformers import AutoModel, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
words, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
rows = []
with torch.no_grad():
    for text in texts:
        tokens = words(text, return_tensors="pt")
        mean = model(**tokens).last_hidden_state[0].mean(0)
        rows.append((mean / mean.norm()).tolist())
print(json.dumps(rows))
"""


def test_transformers_loads_what_is_exported(tuned, tmp_path):
    """To the same embeddings, as far as bf16 goes. `transformers` comes with tests/bench/peers.py."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    python = cache / "learnd" / "peers-venv" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python}: tests/bench/peers.py makes it")
    ctl(tuned, "export-encoder", "default", tmp_path / "out")
    asked = [t for t, _ in texts(8, seed=3)]
    done = subprocess.run([str(python), "-c", HUGGING_FACE, str(tmp_path / "out"), json.dumps(asked)],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for theirs, ours in zip(json.loads(done.stdout), tuned.post(
            "/v1/embed", {"model": "default", "inputs": asked})["embeddings"]):
        assert sum(a * b for a, b in zip(theirs, ours)) > 0.9995


def test_a_model_begins_with_anothers_encoder(tuned):
    made = tuned.post("/v1/models", {"name": "heir", "from": "default"}, expect=201)
    encoder = tuned.get("/v1/models/default")["version"].split(".")[0]
    assert made["version"] == f"{encoder}.0"
    tuned.teach([("cat", "a"), ("card", "b")], model="heir")
    assert tuned.ask("cat", model="heir")["version"].startswith(f"{encoder}.")
    question = {"inputs": ["the cat and the bird"]}
    assert tuned.post("/v1/embed", {**question, "model": "heir"})["embeddings"] == \
        tuned.post("/v1/embed", {**question, "model": "default"})["embeddings"]
    (created,) = [v for v in tuned.get("/v1/models/heir/versions")["versions"] if v["op"] is None]
    assert created["version"] == f"{encoder}.0" and created["reason"] == "created"


def test_an_import_that_is_no_encoder(tuned, tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_text("{}")
    run = tuned.post("/v1/models/default/import", {"folder": str(tmp_path)}, 202)["run"]
    row = ended(tuned, run)
    assert row["state"] == "failed" and row["reason"]
    assert row["encoder"] is None or row["encoder"] == 0


def test_an_import_of_the_base(tuned):
    """What is held already needs no second copy; whatever the verdict, it says so and ends."""
    run = tuned.post("/v1/models/default/import", {"folder": str(TINY)}, 202)["run"]
    row = ended(tuned, run)
    assert row["state"] in ("accepted", "refused") and row["encoder"] == 0
