"""What a model says of itself: corrections are scored before they are learned, and by whom; it survives restarts."""
import pytest

from learnd_process import Daemon

WORDS = "card cash money bank late early lost found send take give open close never".split()


def evaluation(daemon, model="default"):
    return daemon.get(f"/v1/models/{model}/evaluation")


def teach_one(daemon, text, label, **more):
    """The label that was guessed before it was taught."""
    guess = daemon.ask([text])["results"][0]["label"]
    daemon.teach([{"text": text, "label": label, **more}])
    return guess


@pytest.mark.sanitizer
def test_counts_what_was_guessed(daemon):
    """One by one, the daemon's count is the client's."""
    assert evaluation(daemon)["prequential"] is None
    right = seen = known_right = 0
    labels = set()
    for i in range(60):
        text = f"{WORDS[i % 14]} {WORDS[i * 5 % 14]} {i}"
        label = WORDS[i % 3]
        guess = teach_one(daemon, text, label, annotator=f"a{i % 2}")
        right += guess == label
        if label in labels:
            seen += 1
            known_right += guess == label
        labels.add(label)
    found = evaluation(daemon)["prequential"]
    assert found["all"]["rows"] == 60 and found["known"]["rows"] == seen
    assert found["all"]["accuracy"] == pytest.approx(right / 60)
    assert found["known"]["accuracy"] == pytest.approx(known_right / seen)
    assert found["all"]["accuracy_low"] <= found["all"]["accuracy"] <= found["all"]["accuracy_high"]
    assert sum(b["rows"] for b in found["all"]["reliability"]) == 60
    assert {row["annotator"]: row["rows"] for row in found["annotators"]} == {"a0": 30, "a1": 30}
    taught = {row["label"]: row["taught"] for row in found["labels"]}
    assert taught == {w: 20 for w in WORDS[:3]}
    wrong = sum(pair["rows"] for pair in found["confusions"])
    assert wrong == 60 - right - found["unanswered"]


def test_known_texts_are_no_evidence(daemon):
    """A second vote, a repeat and a relabel say nothing about the model."""
    daemon.teach([("a b", "x"), ("c d", "y")])
    daemon.teach([{"text": "a b", "label": "x", "annotator": "other"}, ("c d", "x")])
    assert evaluation(daemon)["prequential"]["all"]["rows"] == 2


@pytest.mark.sanitizer
def test_survives_restarts(daemon):
    for i in range(40):
        teach_one(daemon, f"{WORDS[i % 14]} {i}", WORDS[i % 2])
    daemon.settle()
    before = evaluation(daemon)
    daemon.restart()
    after = evaluation(daemon.settle())
    assert after == before
    daemon.kill9()
    daemon.start()
    assert evaluation(daemon.settle())["prequential"]["all"]["rows"] == 40
    assert before["leave_one_out"]["all"]["rows"] == before["fit"]["examples"] > 0
    assert before["audit"]["examined"] > 0 and before["fit"]["stale"] == 0


def test_drift_is_told(daemon):
    """Two labels change places: the error rises, a detector says so in the evaluation and in the log."""
    def stream(first, n, swapped):
        for at in range(first, first + n, 50):
            items = [(f"{'card' if i % 2 else 'cash'} {i}", "ab"[(i % 2) ^ swapped])
                     for i in range(at, at + 50)]
            daemon.teach(items)

    stream(0, 600, 0)
    assert all(d["fired"] == 0 for d in evaluation(daemon)["drift"] if d["detector"] != "taught_new")
    stream(600, 600, 1)
    fired = {d["detector"]: d for d in evaluation(daemon)["drift"] if d["fired"]}
    error = fired.get("error_adwin") or fired.get("error_ph")
    assert error is not None and error["after"] > error["before"] and not error["new_labels"]
    assert "event=drift" in daemon.text()


def test_unknown_model(shared):
    assert shared.problem("GET", "/v1/models/none/evaluation")[:2] == (404, "unknown_model")


def test_empty_and_removed(make_daemon):
    daemon: Daemon = make_daemon().start()
    daemon.post("/v1/models", {"name": "m"}, expect=201)
    found = evaluation(daemon, "m")
    assert found["prequential"] is None and found["leave_one_out"] is None and found["settled"]
    daemon.delete("/v1/models/m")
    assert daemon.problem("GET", "/v1/models/m/evaluation")[0] == 404


def test_an_erased_name_is_gone_from_the_counts(daemon):
    for i in range(10):
        teach_one(daemon, f"{WORDS[i]} {i}", "x", annotator="zebedee-marker")
    daemon.settle().restart()
    assert [a["annotator"] for a in evaluation(daemon)["prequential"]["annotators"]] == ["zebedee-marker"]
    daemon.post("/v1/erase", {"annotator": "zebedee-marker"})
    found = evaluation(daemon)["prequential"]
    assert found["annotators"] == [] and found["all"]["rows"] == 10
    daemon.stop()
    held = [p for p in daemon.state.rglob("*") if p.is_file() and b"zebedee-marker" in p.read_bytes()]
    assert held == []
