"""What a model says of itself: corrections are scored before they are learned, and by whom; it survives restarts."""
import random
import re
import time

import pytest

from event_stream import EventStream
from learnd_process import START_S, Daemon

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


# ---- questions

SPORT = "ball goal team match player coach win league".split()
MONEY = "card cash money bank account pin transfer fee".split()


def watched(daemon, rows, model="default"):
    """The evaluation, once so many questions have been counted."""
    until = time.monotonic() + START_S
    while True:
        found = evaluation(daemon, model)
        if found["asked"]["rows"] >= rows:
            assert found["asked"]["rows"] == rows
            return found
        assert time.monotonic() < until, found["asked"]
        time.sleep(0.01)


def detectors(found):
    return {d["detector"]: d for d in found["drift"]}


def traffic(daemon, count, words, seed, asked=0, **more):
    """Asks count texts, a request at a time: each fits the buffer once the one before was watched."""
    draw = random.Random(seed)
    done = asked
    while done < asked + count:
        texts = [" ".join(draw.choices(words, k=5)) for _ in range(256)]
        daemon.ask(texts, **more)
        done += 256
        found = watched(daemon, done)
    return found, done


def test_a_change_of_the_questions_is_told(daemon):
    """Questions of one kind, as many as the detectors need, raise no alarm; another kind does, soon, and it is said what
    moved and since when."""
    daemon.teach([(f"{a} {b}", "sport" if words is SPORT else "money")
                  for words in (SPORT, MONEY) for a in words for b in words])
    daemon.settle()
    found, done = traffic(daemon, 4096, MONEY + SPORT[:1], 1)
    assert all(d["fired"] == 0 for n, d in detectors(found).items() if n.startswith("asked_"))
    assert detectors(found)["asked_features"]["rows"] == done
    before = time.time()
    with EventStream(daemon, "types=drift") as stream:
        found, done = traffic(daemon, 1024, SPORT + MONEY[:1], 2, done)
        events = {e.data["detector"]: e.data for e in (next(stream), next(stream))}
    assert events["asked_features"]["measure"] == "features" and events["asked_features"]["since"]
    assert events["asked_mix"]["label"] in ("sport", "money") and events["asked_mix"]["since"]
    assert events["asked_mix"]["before"] != events["asked_mix"]["after"]
    for name in ("asked_features", "asked_mix"):
        told = detectors(found)[name]
        assert told["fired"] >= 1 and told["since_seq"] is None and told["since"] <= told["at"]
        assert told["at"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before - 2))
    assert detectors(found)["asked_features"]["after"] > 0
    log = daemon.text()
    assert "detector=asked_features" in log and "since_unix=" in log
    assert re.search(r"detector=asked_mix label=(sport|money) ", log)
    page = daemon.call("GET", "/metrics", expect=200).text
    assert "learnd_drift_questions_dropped_total 0" in page
    fired = detectors(found)
    daemon.restart()
    found = evaluation(daemon)
    assert found["asked"]["rows"] == done
    assert detectors(found) == fired


@pytest.mark.sanitizer
def test_what_is_not_to_be_kept_is_not_watched(daemon):
    daemon.teach([("a b", "x"), ("c d", "y")])
    daemon.ask(["one two", "three four"], store=False)
    daemon.ask(["five six"], labels=["x"])
    found = watched(daemon, 1)
    assert detectors(found)["asked_features"]["rows"] == 1
    assert detectors(found)["asked_mix"]["rows"] == 0, "the client chose the label"
    daemon.ask(["seven eight"])
    found = watched(daemon, 2)
    assert detectors(found)["asked_mix"]["rows"] == 1


def test_rates_of_questions(daemon):
    daemon.teach([(f"{w} {i}", "ab"[i % 2]) for i, w in enumerate(WORDS * 3)])
    daemon.settle()
    results = [r for k in range(4)
               for r in daemon.ask([f"{WORDS[k]} zebra {i}" for i in range(20)])["results"]]
    asked = watched(daemon, 80)["asked"]
    assert asked["novel"] == pytest.approx(sum(r["novel"] for r in results) / 80)
    assert asked["abstained"] == pytest.approx(sum(r["abstain"] for r in results) / 80)
    assert asked["novel_window"] == asked["novel"]


# ---- kind multi

@pytest.mark.sanitizer
def test_sets_are_scored_before_they_are_learned(daemon):
    """One by one, the daemon's count is the client's."""
    daemon.post("/v1/models", {"name": "m", "kind": "multi"}, expect=201)
    assert evaluation(daemon, "m")["sets"] is None
    names = ["card", "cash", "pin"]
    exact = both = total = known = seen_exact = 0
    seen = set()
    per_label = {n: [0, 0, 0] for n in names}
    for i in range(60):
        truth = {n for k, n in enumerate(names) if (i * 7 + i // 3) >> k & 1}
        text = " ".join([*sorted(truth), "please", str(i)])
        guess = {s["label"] for s in daemon.ask([text], model="m", store=False)["results"][0]["labels"]}
        daemon.teach([{"text": text, "labels": sorted(truth)}], model="m")
        exact += guess == truth
        known += truth <= seen
        seen_exact += guess == truth and truth <= seen
        both += len(guess & truth)
        total += len(guess) + len(truth)
        for name in names:
            per_label[name][0] += name in truth
            per_label[name][1] += name in guess
            per_label[name][2] += name in guess & truth
        seen |= truth
    found = evaluation(daemon, "m")
    sets = found["sets"]
    assert found["prequential"] is None
    assert sets["rows"] == 60 and sets["rows_known"] == known and 0 < exact < 60
    assert sets["exact_match"] == pytest.approx(exact / 60)
    assert sets["exact_match_known"] == pytest.approx(seen_exact / known)
    assert sets["micro_f1"] == pytest.approx(2 * both / total)
    assert 0 <= sets["hamming_loss"] < 0.5
    listed = {x["label"]: [x["taught"], x["predicted"], x["right"]] for x in sets["labels"]}
    assert listed == per_label
    assert detectors(found)["error_adwin"]["rows"] == 60
    daemon.post("/v1/feedback", {"model": "m", "text": text, "labels": [], "annotator": "b",
                                 "wait": "applied"}, expect=202)
    daemon.settle("m").restart()
    assert evaluation(daemon, "m")["sets"] == sets


def test_drift_of_sets_is_told(daemon):
    daemon.post("/v1/models", {"name": "m", "kind": "multi"}, expect=201)
    for at in range(0, 1400, 50):
        items = [{"text": f"{'card' if i % 2 else 'cash'} {i}",
                  "labels": [] if i % 2 ^ (at >= 700) else ["a", "b"]} for i in range(at, at + 50)]
        daemon.teach(items, model="m")
        if at == 650:
            fired = detectors(evaluation(daemon, "m"))
            assert all(d["fired"] == 0 for n, d in fired.items() if n.startswith("error"))
    fired = detectors(evaluation(daemon, "m"))
    assert fired["error_adwin"]["fired"] or fired["error_page_hinkley"]["fired"]


# ---- metrics

def page_of(daemon):
    text = daemon.call("GET", "/metrics", expect=200).text
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line and not line.startswith("#")}


@pytest.mark.sanitizer
def test_metrics_have_the_evaluation(daemon):
    """A second after the last change at most, the page says what /evaluation says."""
    daemon.post("/v1/models", {"name": "m", "kind": "multi"}, expect=201)
    for i in range(40):
        teach_one(daemon, f"{WORDS[i % 14]} {i}", WORDS[i % 2])
    daemon.teach([{"text": f"{WORDS[i]} {i}", "labels": [WORDS[i % 2]]} for i in range(10)], model="m")
    daemon.settle().settle("m")
    e, sets = watched(daemon, 40), evaluation(daemon, "m")["sets"]
    wanted = {"prequential_corrections_total": 40, "model_examples": 40,
              "questions_watched_total": 40, "questions_novel_ratio": e["asked"]["novel_window"],
              "questions_abstained_ratio": e["asked"]["abstained_window"],
              "model_suspects": e["audit"]["suspects"]}
    for name in ("accuracy_fading", "accuracy_window", "macro_f1", "ece", "brier"):
        wanted[f"prequential_{name}"] = e["prequential"]["all"][name]
    for name in ("accuracy", "macro_f1", "ece", "brier"):
        wanted[f"leave_one_out_{name}"] = e["leave_one_out"]["all"][name]
    wanted = {f'learnd_{name}{{model="default"}}': value for name, value in wanted.items()}
    wanted['learnd_prequential_corrections_total{model="m"}'] = 10
    wanted['learnd_prequential_accuracy_window{model="m"}'] = sets["exact_match_window"]
    wanted['learnd_prequential_micro_f1{model="m"}'] = sets["micro_f1"]
    for d in e["drift"]:
        key = f'learnd_drift_alarms_total{{model="default",detector="{d["detector"]}"}}'
        wanted[key] = d["fired"]
    until = time.monotonic() + START_S
    while True:
        page = page_of(daemon)
        if all(page.get(k) == pytest.approx(v) for k, v in wanted.items()):
            break
        assert time.monotonic() < until, {k: (page.get(k), v) for k, v in wanted.items()}
        time.sleep(0.02)
    assert page["learnd_learner_audits_total"] >= 1
    assert 'learnd_prequential_micro_f1{model="default"}' not in page
    assert 'learnd_prequential_ece{model="m"}' not in page
    daemon.restart()
    assert 'learnd_prequential_corrections_total{model="default"} 40' in \
        daemon.call("GET", "/metrics", expect=200).text
    daemon.delete("/v1/models/m")
    assert 'model="m"' not in daemon.call("GET", "/metrics", expect=200).text
