"""Runs, versions and rollback over HTTP: what holds whether or not anything trains. Runs that go
through are in test_runs.py.
"""
import hashlib
import shutil
import sqlite3
import time
from datetime import datetime, timedelta, timezone

import pytest

from event_stream import EventStream
from learnd_process import TINY, problem_of

ENDED = ("accepted", "refused", "failed", "cancelled")


def texts(n, labels=("x", "y")):
    return [(f"text number {i} of {labels[i % len(labels)]}", labels[i % len(labels)])
            for i in range(n)]


@pytest.fixture
def taught(shared, model):
    shared.teach(texts(24), model=model)
    yield model
    for run in shared.get(f"/v1/runs?model={model}&state=queued,running")["runs"]:
        end(shared, run["run"])


def end(daemon, run):
    """Cancels it and waits for its end, as a client would."""
    until = time.monotonic() + 120
    while daemon.call("DELETE", f"/v1/runs/{run}").status_code != 204:
        assert time.monotonic() < until, f"run {run} does not end"
        time.sleep(0.05)


def rfc3339(when):
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---- runs


@pytest.mark.sanitizer
def test_a_run_is_queued_and_cancelled(shared, taught):
    answer = shared.call("POST", f"/v1/models/{taught}/runs", {"epochs": 2, "seed": 5}, expect=202)
    run = answer.json()
    assert answer.headers["Location"] == f"/v1/runs/{run['run']}"
    assert run["model"] == taught and run["strategy"] == "joint" and run["parent"] == 0
    assert run["seed"] == 5 and run["settings"]["epochs"] == 2 and run["settings"]["lr"] == 1e-4
    assert run["state"] == "queued" and run["phase"] == "waiting" and run["encoder"] is None
    assert run["who"] == "operator" and run["since_seq"] == 0 and run["ended"] is None
    again = shared.get(answer.headers["Location"])
    assert again["metrics"] == [] or again["state"] != "queued"
    end(shared, run["run"])
    again = shared.get(f"/v1/runs/{run['run']}")
    assert again["state"] in ENDED and again["ended"] is not None
    if again["state"] == "cancelled":
        assert again["reason"]
    assert shared.delete(f"/v1/runs/{run['run']}").content == b""  # twice is once


@pytest.mark.sanitizer
def test_two_operators_at_once(shared, taught):
    first = shared.post(f"/v1/models/{taught}/runs", {"steps_max": 10000000, "epochs": 100}, 202)
    answer = shared.call("POST", f"/v1/models/{taught}/runs", {})
    assert problem_of(answer)[:2] == (409, "run_exists")
    assert str(first["run"]) in answer.json()["detail"]
    end(shared, first["run"])
    end(shared, shared.post(f"/v1/models/{taught}/runs", {}, 202)["run"])


@pytest.mark.parametrize("body, code, field", [
    ({"epochs": 0}, "out_of_range", "epochs"),
    ({"lora": {"rank": 1000}}, "out_of_range", "lora.rank"),
    ({"alpha": 1}, "conflicting_fields", "alpha"),
    ({"shuffle_labels": True}, "unknown_field", "shuffle_labels"),
    ({"strategy": "import"}, "invalid_value", "strategy"),
])
def test_impossible_settings(shared, taught, body, code, field):
    assert shared.problem("POST", f"/v1/models/{taught}/runs", body) == (422, code, field)
    assert shared.get(f"/v1/runs?model={taught}")["runs"] == []


def test_too_few_examples_says_how_many_more(shared, model):
    path = f"/v1/models/{model}/runs"
    answer = shared.call("POST", path, {})
    assert problem_of(answer)[:2] == (422, "too_few_examples") and "20 more" in answer.text
    shared.teach(texts(13), model=model)
    answer = shared.call("POST", path, {})
    assert problem_of(answer)[:2] == (422, "too_few_examples") and "7 more" in answer.text
    end(shared, shared.post(path, {"strategy": "head"}, 202)["run"])  # takes no steps


def test_one_label(shared, model):
    shared.teach(texts(24, ("only",)), model=model)
    assert shared.problem("POST", f"/v1/models/{model}/runs", {})[:2] == (422, "one_label")


def test_a_model_of_vectors(shared):
    shared.post("/v1/models", {"name": "vec", "encoder": "none", "dim": 4}, expect=201)
    for path, body in (("runs", {}), ("import", {"folder": str(TINY)}), ("rollback", {"encoder": 0})):
        assert shared.problem("POST", f"/v1/models/vec/{path}", body)[:2] == (422, "no_encoder")
    assert shared.problem("GET", "/v1/models/vec/encoder")[:2] == (422, "no_encoder")


def test_listing(shared, model):
    shared.teach(texts(24), model=model)
    ids = []
    for _ in range(5):
        ids.append(shared.post(f"/v1/models/{model}/runs", {"strategy": "head"}, 202)["run"])
        end(shared, ids[-1])
    ids.reverse()
    assert [r["run"] for r in shared.get(f"/v1/runs?model={model}")["runs"]] == ids
    seen, cursor = [], ""
    while cursor is not None:
        page = shared.get(f"/v1/runs?model={model}&limit=2&cursor={cursor}")
        assert len(page["runs"]) <= 2 and "metrics" not in page["runs"][0]
        seen += [r["run"] for r in page["runs"]]
        cursor = page["next_cursor"]
    assert seen == ids
    every = shared.get("/v1/runs?state=" + ",".join(ENDED))["runs"]
    assert set(ids) <= {r["run"] for r in every} and {r["state"] for r in every} <= set(ENDED)
    assert shared.get(f"/v1/runs?model={model}&state=queued")["runs"] == []


@pytest.mark.parametrize("path, problem", [
    ("/v1/runs?model=nobody", (404, "unknown_model", "model")),
    ("/v1/runs?state=best", (422, "invalid_value", "state")),
    ("/v1/runs?limit=0", (422, "out_of_range", "limit")),
    ("/v1/runs?cursor=zzz", (422, "invalid_cursor", "cursor")),
    ("/v1/runs/0", (422, "invalid_id", "id")),
    ("/v1/runs/x", (422, "invalid_id", "id")),
    ("/v1/runs/99999", (404, "unknown_run", None)),
])
def test_bad_questions(shared, path, problem):
    assert shared.problem("GET", path) == problem
    if path.count("/") == 3:
        assert shared.problem("DELETE", path) == problem


def test_a_run_is_told_to_those_who_watch(shared, taught):
    with EventStream(shared, f"types=run&model={taught}") as stream:
        run = shared.post(f"/v1/models/{taught}/runs", {"epochs": 100}, 202)["run"]
        event = next(stream)
        assert event.kind == "run" and event.data["run"] == run
        assert event.data["state"] == "queued" and event.data["loss"] is None
        end(shared, run)
        while event.data["state"] not in ENDED:
            event = next(stream)


@pytest.mark.sanitizer
def test_runs_survive_a_restart_and_go_with_their_model(daemon):
    daemon.teach(texts(24))
    run = daemon.post("/v1/models/default/runs", {"epochs": 100}, 202)["run"]
    daemon.kill9()
    daemon.start()
    assert daemon.get(f"/v1/runs/{run}")["run"] == run
    end(daemon, run)
    daemon.restart()
    assert daemon.get(f"/v1/runs/{run}")["state"] in ENDED
    daemon.delete("/v1/models/default")
    assert daemon.problem("GET", f"/v1/runs/{run}")[1] == "unknown_run"


def test_import_looks_at_the_folder(shared, taught, tmp_path):
    path = f"/v1/models/{taught}/import"
    assert shared.problem("POST", path, {"folder": "relative"}) == \
        (422, "invalid_value", "folder")
    assert shared.problem("POST", path, {"folder": str(tmp_path)}) == \
        (422, "not_an_encoder", "folder")
    run = shared.post(path, {"folder": str(TINY), "margin": 0.25}, 202)
    assert run["strategy"] == "import" and run["settings"]["folder"] == str(TINY)
    assert run["settings"]["margin"] == 0.25
    end(shared, run["run"])


# ---- versions


def test_versions_name_the_encoders(shared, taught):
    answer = shared.get(f"/v1/models/{taught}/versions")
    assert answer["versions"][-1]["op"] is None and answer["versions"][-1]["reason"] == "created"
    assert all(v["run"] is None for v in answer["versions"])
    (base,) = answer["encoders"]
    assert base["encoder"] == 0 and base["origin"] == base["state"] == "base" and base["live"]
    weights = (TINY / "model.safetensors").read_bytes()
    assert base["sha256"] == hashlib.sha256(weights).hexdigest()
    assert base["parent"] is None and base["run"] is None and base["gate"] is None


def test_what_was_live_at(shared, model):
    before = datetime.now(timezone.utc) - timedelta(days=1)
    path = f"/v1/models/{model}/versions"
    assert shared.problem("GET", f"{path}?at={rfc3339(before)}") == (404, "unknown_version", "at")
    first = shared.teach(texts(2), model=model)["version"]
    (row,) = [v for v in shared.get(path)["versions"] if v["version"] == first]
    shared.teach([("later", "x")], model=model)
    answer = shared.get(f"{path}?at={row['created']}")
    assert [v["version"] for v in answer["versions"]] == [first]
    assert answer["versions"][0]["state"] == "past" and answer["next_cursor"] is None
    assert [e["encoder"] for e in answer["encoders"]] == [0]
    now = rfc3339(datetime.now(timezone.utc) + timedelta(seconds=5))
    assert shared.get(f"{path}?at={now}")["versions"][0]["state"] == "live"
    assert shared.problem("GET", f"{path}?at=yesterday") == (422, "invalid_value", "at")
    cursor = shared.get(f"{path}?limit=1")["next_cursor"]
    assert shared.problem("GET", f"{path}?at={now}&cursor={cursor}") == \
        (422, "conflicting_fields", "cursor")


def swapped(daemon, *swaps):
    """Writes a history of swaps behind the daemon's back: (reason, encoder), at the present seq."""
    db = sqlite3.connect(daemon.state / "learnd.db")
    with db:
        (model, seq), = db.execute("SELECT id, seq FROM model WHERE name = 'default'")
        for encoder in {e for _, e in swaps if e > 0}:
            db.execute("INSERT OR IGNORE INTO encoder_version(id, model, parent, run, origin, state,"
                       " dim, sha256, created_us) VALUES(?, ?, 0, 99, 'joint', 'held', 32, ?, 1)",
                       (encoder, model, bytes([encoder]) * 32))
        for reason, encoder in swaps:
            db.execute("INSERT INTO live_encoder(model, t_us, seq, encoder, run, reason)"
                       " VALUES(?, ?, ?, ?, 99, ?)",
                       (model, int(time.time() * 1e6), seq, encoder, reason))
    db.close()


def test_swaps_stand_between_events(daemon):
    """Every page size gives the same list; each version is found by its name."""
    first = daemon.teach(texts(2))["version"]
    daemon.stop()
    swapped(daemon, ("run", 1), ("rollback", 0), ("rollback", 1), ("rollback", 0))
    daemon.start()
    seq = first.split(".")[1]
    last = daemon.teach([("later", "x")])["version"]
    path = "/v1/models/default/versions"
    whole = daemon.get(path)
    names = [v["version"] for v in whole["versions"]]
    assert names[:6] == [last, f"0.{seq}", f"1.{seq}", f"0.{seq}", f"1.{seq}", f"0.{seq}"]
    assert [v["op"] for v in whole["versions"][:6]] == ["label"] + ["swap"] * 4 + ["label"]
    assert [v["reason"] for v in whole["versions"][:3]] == [None, "rollback", "rollback"]
    assert whole["versions"][1]["run"] == 99
    assert [v["state"] for v in whole["versions"]].count("live") == 1
    assert [e["encoder"] for e in whole["encoders"]] == [0, 1]
    for limit in range(1, 9):
        rows, cursor = [], ""
        while cursor is not None:
            page = daemon.get(f"{path}?limit={limit}&cursor={cursor}")
            assert len(page["versions"]) <= limit
            rows += page["versions"]
            cursor = page["next_cursor"]
        assert rows == whole["versions"]
    assert daemon.get(f"{path}/1.{seq}")["op"] == "swap"
    assert daemon.get(f"{path}/{last}")["op"] == "label"
    for never in (f"1.{last.split('.')[1]}", "2.1", "0.99999", f"1.{int(seq) - 1}"):
        assert daemon.problem("GET", f"{path}/{never}")[1] == "unknown_version"


def test_files_of_an_encoder_go_with_its_model(daemon):
    """Weights are made of texts."""
    daemon.stop()
    swapped(daemon, ("run", 1), ("rollback", 0))
    shutil.copytree(TINY, daemon.state / "encoders" / "1")
    daemon.start()
    assert (daemon.state / "encoders" / "1").exists()
    daemon.delete("/v1/models/default")
    until = time.monotonic() + 120
    while (daemon.state / "encoders" / "1").exists():
        assert time.monotonic() < until, "they stay"
        time.sleep(0.01)


# ---- going back


def test_rollback_to_what_is_live_changes_nothing(shared, taught):
    before = shared.get(f"/v1/models/{taught}/versions")
    version = before["versions"][0]["version"]
    for body in ({"encoder": 0}, {"version": version}, {"version": "0.1"}):
        answer = shared.post(f"/v1/models/{taught}/rollback", body, 200)
        assert answer == {"model": taught, "version": version, "encoder": 0, "live": True}
    assert shared.get(f"/v1/models/{taught}/versions") == before


@pytest.mark.parametrize("body, problem", [
    ({}, (422, "missing_field", "version")),
    ({"encoder": 5}, (404, "version_not_held", None)),
    ({"version": "5.1"}, (404, "version_not_held", None)),
    ({"version": "one"}, (422, "invalid_version", "version")),
    ({"version": "0.1", "encoder": 0}, (422, "conflicting_fields", "encoder")),
])
def test_bad_rollbacks(shared, taught, body, problem):
    assert shared.problem("POST", f"/v1/models/{taught}/rollback", body) == problem


# ---- an encoder's files, and beginning with another model's


@pytest.mark.sanitizer
def test_an_encoder_is_carried_away_whole(shared, taught, tmp_path):
    path = f"/v1/models/{taught}/encoder"
    listed = shared.get(path)
    assert listed["encoder"] == 0 and {"model.safetensors", "config.json"} <= \
        {f["name"] for f in listed["files"]}
    for file in listed["files"]:
        got = b""
        while len(got) < file["bytes"]:
            piece = shared.call("GET", f"{path}/{file['name'].replace('/', '%2F')}"
                                f"?encoder=0&offset={len(got)}&bytes=50000", expect=200).content
            assert 0 < len(piece) <= 50000
            got += piece
        assert got == (TINY / file["name"]).read_bytes()
        assert hashlib.sha256(got).hexdigest() == file["sha256"]


@pytest.mark.parametrize("path, problem", [
    ("?encoder=3", (404, "version_not_held", "encoder")),
    ("?encoder=x", (422, "out_of_range", "encoder")),
    ("/nothing.json", (404, "unknown_file", None)),
    ("/..%2F..%2Flearnd.db", (404, "unknown_file", None)),
    ("/config.json?offset=1000000", (422, "out_of_range", "offset")),
    ("/config.json?bytes=5000000", (422, "out_of_range", "bytes")),
    ("/config.json?bytes=0", (422, "out_of_range", "bytes")),
])
def test_what_is_not_carried(shared, taught, path, problem):
    assert shared.problem("GET", f"/v1/models/{taught}/encoder{path}") == problem


def test_a_model_begins_with_anothers_encoder(shared, taught):
    made = shared.post("/v1/models", {"name": f"{taught}-next", "from": taught}, expect=201)
    assert made["version"] == "0.0"
    assert shared.problem("POST", "/v1/models", {"name": "n", "from": "nobody"}) == \
        (404, "unknown_model", "from")
    assert shared.problem("POST", "/v1/models", {"name": "n", "from": taught, "encoder": "none",
                                                 "dim": 4}) == (422, "conflicting_fields", "from")
