"""What becomes of labels: rename, retire, restore, merge, split, thresholds, payloads; it lasts."""
import random
import threading
import time
from urllib.parse import quote

import pytest
import requests

CARD = ["where is my card", "my card has not arrived", "card is not here", "no card in the post"]
CASH = ["i want cash from the machine", "the machine kept my money", "no cash came", "cash please"]
LIMIT = ["what is my limit", "raise my limit please", "how much may i spend", "limit of account"]


def labels_of(model):
    return f"/v1/models/{model}/labels"


def at(model, label, tail=""):
    return f"{labels_of(model)}/{quote(label, safe='')}{tail}"


def rows(daemon, model):
    return {r["label"]: r for r in daemon.get(labels_of(model))["labels"]}


def settle(daemon, model):
    """Until the answers are a function of the examples alone."""
    until = time.monotonic() + 120
    while not daemon.get(f"/v1/models/{model}")["settled"]:
        assert time.monotonic() < until, f"{model} does not settle"
        time.sleep(0.01)


def scores(daemon, model, texts, **fields):
    """For each text {label: score}: everything that is served, once it is settled."""
    settle(daemon, model)
    answer = daemon.ask(texts, model=model, top_k=1000, store=False, **fields)
    return [{s["label"]: s["score"] for s in r["labels"]} for r in answer["results"]]


def close(one, other):
    """Equal to 1e-6: served scores are floats of a state that is equal to 1e-9."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for label, score in a.items():
            assert score == pytest.approx(b[label], abs=1e-6), (label, a, b)


@pytest.fixture
def taught(shared, model):
    """The name of a model that knows card, cash and limit."""
    shared.teach([(t, "card") for t in CARD] + [(t, "cash") for t in CASH]
                 + [(t, "limit") for t in LIMIT], model=model, annotator="ann")
    return model


# ---- rename

@pytest.mark.sanitizer
def test_rename(shared, taught):
    before = scores(shared, taught, CARD)
    (asked,) = shared.ask(CARD[0], model=taught)["results"]
    row = shared.patch(at(taught, "card"), {"label": "the card"})
    assert row["label"] == "the card" and row["aliases"] == ["card"] and row["examples"] == 4
    assert row["status"] == "active" and row["into"] is None
    after = scores(shared, taught, CARD)
    assert after == [{"the card" if k == "card" else k: v for k, v in r.items()} for r in before]
    # old clients: their label, their filter, their confirmation of an answer under the old name
    taught_again = shared.teach([("another card", "card")], model=taught)
    assert "label_created" not in taught_again["accepted"][0]
    (r,) = shared.ask(CARD[0], model=taught, labels=["card", "cash"])["results"]
    assert r["label"] == "the card"
    shared.post("/v1/feedback", {"model": taught, "request_id": asked["request_id"],
                                 "action": "confirm", "annotator": "bob"}, expect=202)
    assert rows(shared, taught)["the card"]["examples"] == 5
    listed = shared.get(f"/v1/models/{taught}/examples?label=card")["examples"]
    assert len(listed) == 5 and {e["label"] for e in listed} == {"the card"}
    # again: the same; and back
    assert shared.patch(at(taught, "card"), {"label": "the card"})["label"] == "the card"
    assert shared.patch(at(taught, "the card"), {"label": "card"})["aliases"] == ["the card"]


def test_names_of_any_kind(shared, model):
    """A label is any text of 128 bytes; in a path every byte may be escaped."""
    for name in ("a/b", "100%", "a?b#c", "ä ö", "é" * 64, "%2F", "merge", "+ +", "\U0001f600"):
        shared.post(labels_of(model), {"label": name}, expect=201)
        assert shared.patch(at(model, name), {"score_min": 0.5})["label"] == name
        everything = "".join(f"%{b:02x}" for b in name.encode())
        row = shared.patch(f"{labels_of(model)}/{everything}", {"score_min": 0.25})
        assert row["label"] == name
        shared.delete(at(model, name))
        assert rows(shared, model)[name]["status"] == "retired"


# ---- retire and restore

@pytest.mark.sanitizer
def test_retire_and_restore(shared, taught):
    before = scores(shared, taught, CARD + CASH + LIMIT)
    examples = shared.get(f"/v1/models/{taught}/examples?label=cash")["examples"]
    shared.delete(at(taught, "cash"))
    row = rows(shared, taught)["cash"]
    assert row["status"] == "retired" and row["examples"] == 4
    for served in scores(shared, taught, CARD + CASH + LIMIT):
        assert served.keys() == {"card", "limit"}
    listed = shared.get(f"/v1/models/{taught}/examples?label=cash")["examples"]
    assert [e["text"] for e in listed] == [e["text"] for e in examples]  # kept
    assert {e["status"] for e in listed} == {"retired"} and {e["label"] for e in listed} == {None}
    assert shared.get(f"/v1/models/{taught}")["labels"] == 2
    assert shared.get(f"/v1/models/{taught}")["examples"] == 8
    (r,) = shared.ask(CASH[0], model=taught, labels=["cash"])["results"]
    assert r["label"] is None and r["abstain"] is True and r["labels"] == []
    shared.delete(at(taught, "cash"))  # once more is once
    row = shared.patch(at(taught, "cash"), {"status": "active"})
    assert row["status"] == "active" and row["examples"] == 4
    close(scores(shared, taught, CARD + CASH + LIMIT), before)


def test_teaching_a_retired_label(shared, taught):
    shared.delete(at(taught, "cash"))
    body = {"model": taught, "text": "new", "label": "cash"}
    assert shared.problem("POST", "/v1/feedback", body) == (409, "label_retired", "label")
    answer = shared.post("/v1/feedback", {"model": taught, "items": [
        {"text": "new", "label": "cash"}, {"text": "new", "label": "card"}]}, expect=202)
    assert [r["code"] for r in answer["rejected"]] == ["label_retired"]
    assert len(answer["accepted"]) == 1
    shared.post("/v1/feedback", {**body, "text": CASH[0], "action": "reject"}, expect=202)
    shared.patch(at(taught, "cash"), {"status": "active"})
    assert rows(shared, taught)["cash"]["examples"] == 3  # one for and one against: nothing is left


# ---- merge

@pytest.mark.sanitizer
def test_merge_is_teaching_one_label(shared, taught, model):
    """Events and then a merge: the head that the merged name would have made. In any order."""
    other = taught + "-one"
    shared.post("/v1/models", {"name": other}, expect=201)
    one = [(t, "card") for t in CARD + CASH] + [(t, "limit") for t in LIMIT]
    random.Random(7).shuffle(one)
    shared.teach(one, model=other, annotator="ann")
    row = shared.post(at(taught, "cash", "/merge"), {"into": "card"})
    assert row["label"] == "card" and row["examples"] == 8 and row["aliases"] == ["cash"]
    close(scores(shared, taught, CARD + CASH + LIMIT), scores(shared, other, CARD + CASH + LIMIT))
    merged = rows(shared, taught)["cash"]
    assert merged["status"] == "merged" and merged["into"] == "card" and merged["examples"] == 0
    assert shared.get(f"/v1/models/{taught}")["labels"] == 2
    # its name is the other's
    (r,) = shared.ask(CASH[0], model=taught, labels=["cash", "limit"])["results"]
    assert r["label"] == "card"
    shared.teach([("more cash", "cash")], model=taught)
    assert rows(shared, taught)["card"]["examples"] == 9
    shared.post(at(taught, "card", "/merge"), {"into": "limit"})
    assert rows(shared, taught)["cash"]["into"] == "limit"
    assert rows(shared, taught)["limit"]["aliases"] == ["card", "cash"]


def test_votes_for_and_against_move(shared, model):
    for name, label, weight in (("ann", "a", 1), ("bob", "b", 2), ("cid", "c", 1)):
        item = {"text": "t", "label": label, "annotator": name, "weight": weight}
        shared.teach([item], model=model)
    shared.teach([{"text": "t", "label": "a", "action": "reject", "annotator": "dan"}], model=model)
    shared.post(at(model, "a", "/merge"), {"into": "b"})
    (example,) = shared.get(f"/v1/models/{model}/examples")["examples"]
    assert {s["label"]: s["share"] for s in example["labels"]} == {"b": 2 / 3, "c": 1 / 3}


# ---- split

@pytest.mark.sanitizer
def test_split(shared, taught):
    before = scores(shared, taught, CARD + CASH + LIMIT)
    shared.post(at(taught, "cash", "/merge"), {"into": "card"})
    listed = shared.get(f"/v1/models/{taught}/examples?label=card")["examples"]
    ids = [e["example"] for e in listed if e["text"] in CASH]
    row = shared.post(at(taught, "card", "/split"), {"label": "money", "examples": ids})
    assert row["label"] == "money" and row["examples"] == 4 and row["aliases"] == []
    assert rows(shared, taught)["card"]["examples"] == 4
    close(scores(shared, taught, CARD + CASH + LIMIT),
          [{"money" if k == "cash" else k: v for k, v in r.items()} for r in before])
    # into one that is there
    row = shared.post(at(taught, "money", "/split"), {"label": "limit", "examples": ids[:1]})
    assert row["label"] == "limit" and row["examples"] == 5


# ---- thresholds and payloads

@pytest.mark.sanitizer
def test_score_min(shared, taught):
    settle(shared, taught)
    (r,) = shared.ask("my card", model=taught)["results"]
    assert r["label"] == "card"
    score = r["score"]
    shared.patch(f"/v1/models/{taught}", {"settings": {"rejection_budget": 0.0}})

    def abstains(label_min, model_min):
        shared.patch(at(taught, "card"), {"score_min": label_min})
        shared.patch(f"/v1/models/{taught}", {"settings": {"score_min": model_min}})
        settle(shared, taught)
        (r,) = shared.ask("my card", model=taught)["results"]
        assert r["label"] == "card" and r["score"] == score
        return r["abstain"]

    assert abstains(None, 0) is False
    assert abstains(1, 0) is True  # the label's own
    assert abstains(score, 0) is False  # not below
    assert abstains(0, 1) is False  # before the model's
    assert abstains(None, 1) is True  # no own one: the model's
    assert rows(shared, taught)["card"]["score_min"] is None


@pytest.mark.sanitizer
def test_payload(shared, taught):
    payload = {"answer": "It is coming.\u0000", "urls": ["https://example.org/é", None], "n": -1.5}
    (r,) = shared.ask(CARD[0], model=taught)["results"]
    assert "payload" not in r
    assert shared.patch(at(taught, "card"), {"payload": payload})["payload"] == payload
    first, second = shared.ask([CARD[0], CASH[0]], model=taught, top_k=3)["results"]
    assert first["label"] == "card" and first["payload"] == payload
    assert second["label"] == "cash" and "payload" not in second
    shared.patch(at(taught, "card"), {"score_min": 0.1, "label": "post"})  # the rest stays
    (r,) = shared.ask(CARD[0], model=taught)["results"]
    assert r["label"] == "post" and r["payload"] == payload
    for other in (0, False, "", [], {}, "x" * 4094):
        shared.patch(at(taught, "post"), {"payload": other})
        (r,) = shared.ask(CARD[0], model=taught)["results"]
        assert r["payload"] == other and type(r["payload"]) is type(other)
    assert shared.patch(at(taught, "post"), {"payload": None})["payload"] is None
    (r,) = shared.ask(CARD[0], model=taught)["results"]
    assert "payload" not in r


def test_everything_in_one_patch(shared, taught):
    shared.delete(at(taught, "card"))
    version = shared.get(f"/v1/models/{taught}")["version"]
    row = shared.patch(at(taught, "card"), {"label": "post", "status": "active", "score_min": 0.5,
                                            "payload": [1]})
    assert row["label"] == "post" and row["status"] == "active"
    assert row["score_min"] == 0.5 and row["payload"] == [1]
    ops = [v["op"] for v in shared.get(f"/v1/models/{taught}/versions?limit=3")["versions"]]
    assert ops == ["label_set", "label_restore", "label_rename"]
    assert shared.get(f"/v1/models/{taught}")["version"] != version
    # or not at all: the last part is refused, the first is not kept
    assert shared.problem("PATCH", at(taught, "post"), {"label": "new", "status": "active"}) == \
        (409, "label_active", "status")
    assert "new" not in rows(shared, taught)


# ---- bad input

@pytest.mark.sanitizer
def test_bad_input(shared, taught):
    shared.post(labels_of(taught), {"label": "old"}, expect=201)
    shared.post(labels_of(taught), {"label": "gone"}, expect=201)
    shared.patch(at(taught, "limit"), {"label": "max"})
    shared.post(at(taught, "old", "/merge"), {"into": "card"})
    shared.delete(at(taught, "gone"))
    listed = shared.get(f"/v1/models/{taught}/examples?limit=1000")["examples"]
    card = next(e["example"] for e in listed if e["label"] == "card")
    cash = next(e["example"] for e in listed if e["label"] == "cash")
    nobody = "0" * 32
    version = shared.get(f"/v1/models/{taught}")["version"]
    before = (rows(shared, taught), scores(shared, taught, CARD + CASH + LIMIT))
    for method, label, tail, body, wanted in (
            ("PATCH", "none", "", {"label": "x"}, (404, "unknown_label", None)),
            ("PATCH", "x" * 129, "", {"label": "x"}, (404, "unknown_label", None)),
            ("PATCH", "a\x01", "", {"label": "x"}, (404, "unknown_label", None)),
            ("DELETE", "none", "", None, (404, "unknown_label", None)),
            ("POST", "none", "/merge", {"into": "card"}, (404, "unknown_label", None)),
            ("POST", "none", "/split", {"label": "x", "examples": [card]},
             (404, "unknown_label", None)),
            ("PATCH", "card", "", {}, (422, "missing_field", None)),
            ("PATCH", "card", "", {"label": "cash"}, (409, "label_exists", "label")),
            ("PATCH", "card", "", {"label": "limit"}, (409, "label_exists", "label")),
            ("PATCH", "cash", "", {"label": "old"}, (409, "label_exists", "label")),
            ("PATCH", "card", "", {"label": "gone"}, (409, "label_exists", "label")),
            ("PATCH", "card", "", {"status": "active"}, (409, "label_active", "status")),
            ("PATCH", "gone", "", {"status": "retired"}, (409, "label_retired", "status")),
            ("PATCH", "card", "", {"status": "merged"}, (422, "invalid_value", "status")),
            ("PATCH", "card", "", {"score_min": 2}, (422, "out_of_range", "score_min")),
            ("PATCH", "card", "", {"score_min": -0.1}, (422, "out_of_range", "score_min")),
            ("PATCH", "card", "", {"payload": "x" * 4095}, (422, "out_of_range", "payload")),
            ("PATCH", "card", "", {"colour": 1}, (422, "unknown_field", "colour")),
            ("PATCH", "card", "", b'{"payload":', (400, "malformed_json", None)),
            ("PATCH", "old", "", {"label": "x"}, (409, "label_merged", None)),
            ("DELETE", "old", "", None, (409, "label_merged", None)),
            ("POST", "old", "/merge", {"into": "cash"}, (409, "label_merged", None)),
            ("POST", "card", "/merge", {"into": "old"}, (409, "merge_cycle", "into")),
            ("POST", "card", "/merge", {"into": "card"}, (422, "invalid_value", "into")),
            ("POST", "max", "/merge", {"into": "limit"}, (422, "invalid_value", "into")),
            ("POST", "card", "/merge", {"into": "none"}, (422, "unknown_label", "into")),
            ("POST", "card", "/merge", {"into": "gone"}, (409, "label_retired", "into")),
            ("POST", "gone", "/merge", {"into": "card"}, (409, "label_retired", None)),
            ("POST", "card", "/merge", {}, (422, "missing_field", "into")),
            ("POST", "card", "/split", {"label": "x", "examples": []},
             (422, "out_of_range", "examples")),
            ("POST", "card", "/split", {"label": "x", "examples": [card, card]},
             (422, "invalid_value", "examples")),
            ("POST", "card", "/split", {"label": "x", "examples": [card, cash]},
             (422, "invalid_value", "examples[1]")),
            ("POST", "card", "/split", {"label": "x", "examples": [card, nobody]},
             (404, "unknown_example", "examples[1]")),
            ("POST", "card", "/split", {"label": "x", "examples": ["7"]},
             (422, "invalid_id", "examples[0]")),
            ("POST", "card", "/split", {"label": "card", "examples": [card]},
             (422, "invalid_value", "label")),
            ("POST", "card", "/split", {"label": "old", "examples": [card]},
             (422, "invalid_value", "label")),
            ("POST", "card", "/split", {"label": "gone", "examples": [card]},
             (409, "label_retired", "label")),
            ("POST", "old", "/split", {"label": "x", "examples": [card]},
             (409, "label_merged", None)),
            ("GET", "card", "", None, (405, "method_not_allowed", None)),
    ):
        found = shared.problem(method, at(taught, label, tail), body)
        assert found == wanted, (method, label, body)
    found = shared.problem("PATCH", at("no-model", "card"), {"label": "x"})
    assert found == (404, "unknown_model", None)
    found = shared.problem("POST", labels_of(taught), {"label": "limit"})
    assert found == (409, "label_exists", "label")
    assert shared.get(f"/v1/models/{taught}")["version"] == version  # nothing has changed
    assert (rows(shared, taught), scores(shared, taught, CARD + CASH + LIMIT)) == before


def test_a_label_with_too_many_old_names(shared, model):
    shared.post(labels_of(model), {"label": "n0"}, expect=201)
    for i in range(1, 101):
        shared.patch(at(model, "n0"), {"label": f"n{i}"})
    assert shared.problem("PATCH", at(model, "n0"), {"label": "more"}) == \
        (409, "too_many_aliases", "label")
    assert len(rows(shared, model)["n100"]["aliases"]) == 100


# ---- it lasts

def every_act(daemon):
    """Every act once, with corrections between them."""
    daemon.teach([(t, "card") for t in CARD] + [(t, "cash") for t in CASH]
                 + [(t, "limit") for t in LIMIT], annotator="ann")
    listed = daemon.get("/v1/models/default/examples?label=limit")["examples"]
    daemon.post(at("default", "limit", "/split"),
                {"label": "raise", "examples": [e["example"] for e in listed[:2]]})
    daemon.teach([("lost my card", "lost"), ("it was stolen", "lost"), ("junk", "bin")])
    daemon.post(at("default", "lost", "/merge"), {"into": "card"})
    daemon.patch(at("default", "card"),
                 {"label": "the card", "payload": {"a": 1}, "score_min": 0.3})
    daemon.delete(at("default", "bin"))
    daemon.teach([("another one lost", "lost"), ("more cash", "cash")])
    daemon.delete(at("default", "cash"))
    daemon.patch(at("default", "cash"), {"status": "active"})


ALL = CARD + CASH + LIMIT + ["lost my card", "junk", "something else"]


def test_restart(daemon):
    """From the image with the journal's tail, and from the journal alone: what was, is."""
    every_act(daemon)
    wanted = (rows(daemon, "default"), scores(daemon, "default", ALL))
    daemon.restart()
    assert rows(daemon, "default") == wanted[0]
    close(scores(daemon, "default", ALL), wanted[1])
    daemon.stop()
    heads = list((daemon.state / "heads").iterdir())
    assert heads
    for head in heads:
        head.unlink()
    daemon.start()
    assert rows(daemon, "default") == wanted[0]
    close(scores(daemon, "default", ALL), wanted[1])
    (r,) = daemon.ask(CARD[0], labels=["lost"])["results"]
    assert r["label"] == "the card" and r["payload"] == {"a": 1}


def test_killed_behind_an_image(daemon):
    """Label acts are the tail behind the image, whose head has the examples as they were."""
    daemon.teach([(t, "card") for t in CARD] + [(t, "cash") for t in CASH]
                 + [(t, "limit") for t in LIMIT])
    daemon.restart()  # an image of this
    daemon.post(at("default", "cash", "/merge"), {"into": "card"})
    daemon.delete(at("default", "limit"))
    wanted = (rows(daemon, "default"), scores(daemon, "default", ALL))
    daemon.kill9()
    daemon.start()
    assert rows(daemon, "default") == wanted[0]
    close(scores(daemon, "default", ALL), wanted[1])


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(daemon, seed):
    """An act that was answered is there afterwards; none is there in part."""
    rng = random.Random(seed)
    texts = [f"text number {i}" for i in range(60)]
    daemon.teach([(t, "a" if i % 2 else "b") for i, t in enumerate(texts)])
    acknowledged, enough, wanted = [], threading.Event(), rng.randrange(3, 25)

    def act():
        with_label = ["a", "b"]
        try:
            for i in range(1000):
                old, new = with_label[i % 2], f"{'ab'[i % 2]}{i}"
                daemon.post(labels_of("default"), {"label": new}, expect=201)
                daemon.post(at("default", old, "/merge"), {"into": new})
                with_label[i % 2] = new
                acknowledged.append((old, new))
                if len(acknowledged) == wanted:
                    enough.set()
        except requests.RequestException:
            pass  # the daemon has gone; what was not answered may be there or not

    thread = threading.Thread(target=act)
    thread.start()
    assert enough.wait(60)
    daemon.kill9()
    thread.join()
    assert len(acknowledged) >= wanted
    daemon.start()
    found = rows(daemon, "default")
    for old, new in acknowledged:
        assert found[old]["status"] == "merged" and found[old]["examples"] == 0
        assert new in found
    held = {name: row["examples"] for name, row in found.items() if row["examples"]}
    assert sorted(held.values()) == [30, 30]  # all of a label's examples, or none
    assert {name[0] for name in held} == {"a", "b"}
    for r in scores(daemon, "default", texts):
        assert r.keys() <= held.keys()


def test_answers_never_mix(daemon):
    """While labels change, each answer is of one version: its names, payloads and head."""
    texts = CARD + CASH
    daemon.teach([(t, "card") for t in CARD] + [(t, "cash") for t in CASH])
    daemon.patch(at("default", "card"), {"payload": "card"})
    daemon.patch(at("default", "cash"), {"payload": "cash"})
    by_version, failures, over = {}, [], threading.Event()

    def ask():
        session = requests.Session()
        session.trust_env = False
        while not over.is_set():
            body = {"inputs": texts, "top_k": 10, "store": False}
            answer = session.post(daemon.url + "/v1/classify", json=body, timeout=60).json()
            seen = []
            for r in answer["results"]:
                names = {s["label"] for s in r["labels"]}
                seen.append((r["label"], r["payload"], tuple(sorted(names))))
                if r["payload"] != r["label"] or r["label"] not in names:
                    failures.append(r)
            known = by_version.setdefault(answer["version"], seen)
            if known != seen:
                failures.append((answer["version"], known, seen))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    names = {"card": "card", "cash": "cash"}
    for i in range(1, 25):
        for word in ("card", "cash"):
            new = f"{word}{i}"
            daemon.patch(at("default", names[word]), {"label": new, "payload": new})
            names[word] = new
        daemon.delete(at("default", names["cash"]))
        daemon.patch(at("default", names["cash"]), {"status": "active"})
    over.set()
    for t in threads:
        t.join()
    assert not failures, failures[:3]
    assert len(by_version) > 5
