"""Teaching: POST /v1/feedback in all its ways."""
import json

import pytest

from learnd_process import Daemon

FEEDBACK = "/v1/feedback"


def label_of(daemon, model, text):
    return daemon.ask(text, model=model)["results"][0]["label"]


def row(daemon, example):
    return daemon.get(f"/v1/examples/{example}")


def shares(daemon, example):
    return {s["label"]: pytest.approx(s["share"]) for s in row(daemon, example)["labels"]}


# ---- one, many, streamed

@pytest.mark.sanitizer
def test_one_counts_at_once(daemon):
    answer = daemon.post(FEEDBACK, {"text": "a b", "label": "x", "wait": "applied"}, expect=202)
    (accepted,) = answer["accepted"]
    assert accepted["duplicate"] is False and accepted["label_created"] is True
    assert answer["rejected"] == []
    asked = daemon.ask("a b")
    assert asked["version"] == answer["version"]
    assert asked["results"][0]["label"] == "x"


def test_items(shared, model):
    items = [{"text": f"text {i}", "label": f"l{i % 7}"} for i in range(1000)]
    answer = shared.teach(items, model=model)
    assert len(answer["accepted"]) == 1000
    seqs = [a["seq"] for a in answer["accepted"]]
    assert seqs == sorted(seqs) and answer["version"] == f"0.{seqs[-1]}"
    assert [a.get("label_created", False) for a in answer["accepted"]] == [True] * 7 + [False] * 993
    assert shared.ask("a", model=model)["version"] == answer["version"]


def test_defaults_beside_items(shared, model):
    answer = shared.post(FEEDBACK, {
        "model": model, "annotator": "ann", "source": "import", "wait": "applied",
        "items": [{"text": "a", "label": "x"}, {"text": "b", "label": "x", "annotator": "bob"}]},
        expect=202)
    versions = shared.get(f"/v1/models/{model}/versions")["versions"]
    by = {v["example"]: v["annotator"] for v in versions if v["op"] == "label"}
    assert [by[a["example"]] for a in answer["accepted"]] == ["ann", "bob"]


@pytest.mark.sanitizer
def test_ndjson(shared, model):
    items = [{"model": model, "text": f"line {i}", "label": f"l{i % 3}"} for i in range(3000)]
    answer = shared.ndjson(items)
    assert answer["accepted_count"] == 3000 and answer["rejected_count"] == 0
    assert answer["truncated"] is True and len(answer["accepted"]) == 1000
    assert shared.get(f"/v1/models/{model}")["examples"] == 3000


@pytest.mark.sanitizer
def test_ndjson_waits_by_its_query(shared, model):
    items = [{"model": model, "text": f"line {i}", "label": f"l{i % 3}"} for i in range(600)]
    answer = shared.ndjson(items, query="?wait=applied")
    assert shared.ask("a", model=model)["version"] == answer["version"]
    assert shared.problem("POST", FEEDBACK + "?wait=never", b"{}\n",
                          headers={"Content-Type": "application/x-ndjson"}) == \
        (422, "invalid_value", "wait")


def test_one_body_waits_by_its_query(shared, model):
    """?wait=applied is as good as the field, for one item and for a list."""
    for body in ({"text": "one", "label": "q"}, {"items": [{"text": "two", "label": "q"}]}):
        answer = shared.post(FEEDBACK + "?wait=applied", {"model": model, **body}, expect=202)
        assert shared.ask("one", model=model)["version"] == answer["version"]


@pytest.mark.sanitizer
def test_a_stream_waits_for_every_model_it_teaches(shared, model):
    """Also where the lines that asked for it are far behind, and the last ones are refused."""
    other = f"{model}-other"
    shared.post("/v1/models", {"name": other}, expect=201)
    items = [{"model": name, "text": f"line {i}", "label": f"l{i % 3}", "wait": "applied"}
             for name in (model, other) for i in range(300)]
    answer = shared.ndjson(items + [{"model": model, "text": "", "label": "x"}] * 300)
    assert (answer["accepted_count"], answer["rejected_count"]) == (600, 300)
    versions = [shared.ask("a", model=name)["version"] for name in (model, other)]
    seqs = [int(version.split(".")[1]) for version in versions]
    assert seqs == [answer["accepted"][299]["seq"], answer["accepted"][599]["seq"]]
    assert versions[1] == answer["version"]


@pytest.mark.sanitizer
def test_ndjson_in_chunks_of_any_size(shared, model):
    text = "".join(json.dumps({"model": model, "text": f"größe {i}", "label": "x"},
                              ensure_ascii=False) + "\r\n" for i in range(200)).encode()
    for size in (1, 7, 4096):
        pieces = (text[i:i + size] for i in range(0, len(text), size))
        answer = shared.session.post(shared.url + FEEDBACK, data=pieces, timeout=60,
                                     headers={"Content-Type": "application/x-ndjson"})
        assert answer.status_code == 202 and answer.json()["accepted_count"] == 200
    assert shared.get(f"/v1/models/{model}")["examples"] == 200


def test_last_line_needs_no_end(shared, model):
    body = json.dumps({"model": model, "text": "a", "label": "x"}).encode()
    answer = shared.post(FEEDBACK, body, expect=202,
                         headers={"Content-Type": "application/x-ndjson"})
    assert answer["accepted_count"] == 1


@pytest.mark.sanitizer
def test_an_empty_stream(shared):
    answer = shared.post(FEEDBACK, b"", expect=202,
                         headers={"Content-Type": "application/x-ndjson"})
    assert answer["accepted"] == answer["rejected"] == [] and answer["version"] is None


# ---- votes

@pytest.mark.sanitizer
def test_the_same_text_replaces_an_annotators_vote(shared, model):
    first = shared.teach([{"text": "t", "label": "x", "annotator": "a"}], model=model)
    second = shared.teach([{"text": "t", "label": "y", "annotator": "a"}], model=model)
    example = first["accepted"][0]["example"]
    assert second["accepted"][0]["example"] == example
    assert shares(shared, example) == {"y": 1} and row(shared, example)["annotators"] == 1
    assert label_of(shared, model, "t") == "y"


@pytest.mark.sanitizer
def test_two_annotators_make_a_soft_target(shared, model):
    (accepted,) = shared.teach([{"text": "t", "label": "x", "annotator": "a"}],
                               model=model)["accepted"]
    shared.teach([{"text": "t", "label": "y", "annotator": "b", "weight": 3}], model=model)
    example = accepted["example"]
    assert shares(shared, example) == {"x": 0.25, "y": 0.75}
    assert row(shared, example)["annotators"] == 2 and row(shared, example)["label"] == "y"
    (result,) = shared.ask("t", model=model, top_k=2)["results"]
    assert result["label"] == "y"
    shared.teach([{"text": "t", "label": "x", "annotator": "b"}], model=model)
    assert shares(shared, example) == {"x": 1}


@pytest.mark.sanitizer
def test_reject(shared, model):
    (accepted,) = shared.teach([{"text": "t", "label": "x", "annotator": "a"},
                                {"text": "u", "label": "y"}], model=model)["accepted"][:1]
    example = accepted["example"]
    shared.teach([{"example": example, "action": "reject", "annotator": "b"}], model=model)
    assert row(shared, example)["status"] == "rejected" and shares(shared, example) == {}
    shared.teach([{"example": example, "label": "y", "annotator": "b"}], model=model)
    assert shares(shared, example) == {"y": 1}, "x has one vote for it and one against"
    assert label_of(shared, model, "t") == "y"


def test_reject_by_text_and_label(shared, model):
    shared.teach([("t", "x"), ("u", "y")], model=model)
    (accepted,) = shared.teach([{"text": "t", "label": "x", "action": "reject"}],
                               model=model)["accepted"]
    assert row(shared, accepted["example"])["status"] == "rejected"


@pytest.mark.sanitizer
def test_withdraw(shared, model):
    (first, other) = shared.teach([{"text": "t", "label": "x", "annotator": "a"},
                                   {"text": "u", "label": "y"}], model=model)["accepted"]
    shared.teach([{"text": "t", "label": "y", "annotator": "b"}], model=model)
    example = first["example"]
    shared.teach([{"example": example, "action": "withdraw", "annotator": "a"}], model=model)
    assert shares(shared, example) == {"y": 1}
    body = {"model": model, "example": example, "action": "withdraw", "annotator": "a"}
    assert shared.problem("POST", FEEDBACK, body)[0] == 404, "it was taken back before"
    shared.teach([{"example": example, "action": "withdraw", "annotator": "b"}], model=model)
    assert row(shared, example)["status"] == "withdrawn" and shares(shared, example) == {}
    shared.teach([{"text": "t", "label": "x", "annotator": "a"}], model=model)
    assert row(shared, example)["status"] == "active", "it comes back under its old id"
    assert row(shared, other["example"])["status"] == "active"


# ---- feedback on an answer

@pytest.mark.sanitizer
def test_by_request_id(shared, model):
    shared.teach([("a b c", "x"), ("d e f", "y")], model=model)
    asked = shared.ask([{"text": "a b c d", "text_pair": "e"},
                        {"text": "g h i"}], model=model)["results"]
    wrong = "y" if asked[0]["label"] == "x" else "x"
    (accepted,) = shared.teach([{"request_id": asked[0]["request_id"], "label": wrong}],
                               model=model)["accepted"]
    example = row(shared, accepted["example"])
    assert (example["text"], example["text_pair"]) == ("a b c d", "e")
    assert example["label"] == wrong
    (confirmed,) = shared.teach([{"request_id": asked[1]["request_id"], "action": "confirm"}],
                                model=model)["accepted"]
    assert row(shared, confirmed["example"])["label"] == asked[1]["label"]
    (result,) = shared.ask("j k l", model=model)["results"]
    (rejected,) = shared.teach([{"request_id": result["request_id"], "action": "reject"}],
                               model=model)["accepted"]
    assert row(shared, rejected["example"])["status"] == "rejected"


def test_request_of_another_model(shared, model):
    (result,) = shared.ask("a", model="default")["results"]
    body = {"model": model, "request_id": result["request_id"], "label": "x"}
    assert shared.problem("POST", FEEDBACK, body) == (422, "invalid_value", "request_id")


def test_confirm_of_an_answer_without_label(shared, model):
    (result,) = shared.ask("a", model=model)["results"]
    body = {"model": model, "request_id": result["request_id"], "action": "confirm"}
    assert shared.problem("POST", FEEDBACK, body) == (422, "missing_field", "label")


def test_labels_are_not_created_when_told_so(shared, model):
    shared.post(f"/v1/models/{model}/labels", {"label": "known"}, expect=201)
    shared.teach([{"text": "a", "label": "known", "create_labels": False}], model=model)
    body = {"model": model, "text": "b", "label": "unknown", "create_labels": False}
    assert shared.problem("POST", FEEDBACK, body) == (422, "unknown_label", "label")


# ---- the same thing twice

@pytest.mark.sanitizer
def test_idempotency(shared, model):
    body = {"model": model, "text": "t", "label": "x", "idempotency_key": "k"}
    first = shared.post(FEEDBACK, body, expect=202)
    again = shared.post(FEEDBACK, {"wait": "applied", **dict(reversed(body.items()))}, expect=202)
    assert again["accepted"][0]["duplicate"] is True and first["accepted"][0]["duplicate"] is False
    assert again["accepted"][0]["seq"] == first["accepted"][0]["seq"]
    assert again["accepted"][0]["example"] == first["accepted"][0]["example"]
    assert again["version"] == first["version"]
    line = shared.ndjson([body])
    assert line["accepted"][0]["duplicate"] is True
    assert shared.get(f"/v1/models/{model}/versions")["versions"][0]["version"] == first["version"]


def test_idempotency_by_header(shared, model):
    body = {"model": model, "text": "t", "label": "x"}
    headers = {"Idempotency-Key": "from-the-header"}
    first = shared.post(FEEDBACK, body, expect=202, headers=headers)
    again = shared.post(FEEDBACK, body, expect=202, headers=headers)
    other = shared.call("POST", FEEDBACK, {**body, "label": "y"}, expect=409, headers=headers)
    assert other.json()["code"] == "idempotency_conflict"
    assert again["accepted"][0]["duplicate"] and not first["accepted"][0]["duplicate"]
    same = shared.post(FEEDBACK, {**body, "idempotency_key": "from-the-header"}, expect=202)
    assert same["accepted"][0]["duplicate"]


def test_keys_are_of_one_model(shared, model):
    for name in (model, "default"):
        answer = shared.post(FEEDBACK, {"model": name, "text": "t", "label": "x",
                                        "idempotency_key": f"shared-{model}"}, expect=202)
        assert answer["accepted"][0]["duplicate"] is False


def test_a_key_twice_in_one_batch(shared, model):
    item = {"text": "t", "label": "x", "idempotency_key": "twice"}
    answer = shared.post(FEEDBACK, {"model": model, "items": [item, item, {**item, "text": "u"}]},
                         expect=202)
    assert [a["duplicate"] for a in answer["accepted"]] == [False, True]
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(2, "idempotency_conflict")]


# ---- order does not matter, and forgetting is exact

def scores(daemon, model, texts):
    daemon.settle(model)
    return [{s["label"]: s["score"] for s in r["labels"]}
            for r in daemon.ask(texts, model=model, top_k=20)["results"]]


def assert_same(left, right, within=1e-6):
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for label, score in a.items():
            assert abs(b[label] - score) <= within, (a, b)


def corpus(n):
    words = "card cash money bank late early lost found send take give open close never".split()
    return [{"text": " ".join(words[(i * k) % 14] for k in range(1, 6)) + f" {i}",
             "label": f"l{i * i % 5}"} for i in range(n)]


@pytest.mark.parametrize("features", [64, 1024])
def test_order_does_not_matter(make_daemon, features):
    items = corpus(240)
    asked = [i["text"] for i in corpus(300)[200:]]
    orders = {"file": items, "back": items[::-1], "label": sorted(items, key=lambda i: i["label"])}
    daemon = make_daemon().start()
    found = {}
    for name, order in orders.items():
        daemon.post("/v1/models", {"name": name, "settings": {"features": features}}, expect=201)
        for at in range(0, len(order), 37):
            daemon.teach(order[at:at + 37], model=name)
        found[name] = scores(daemon, name, asked)
    assert_same(found["file"], found["back"])
    assert_same(found["file"], found["label"])


def test_deleted_is_never_seen(make_daemon):
    """Delete, withdraw and relabel, against a daemon that was only ever told the rest."""
    items = corpus(240)
    daemon, fresh = make_daemon("used").start(), make_daemon("fresh").start()
    accepted = daemon.teach(items)["accepted"]
    for i, a in enumerate(accepted[:90]):
        if i % 3 == 0:
            daemon.delete(f"/v1/examples/{a['example']}")
        elif i % 3 == 1:
            daemon.teach([{"example": a["example"], "action": "withdraw"}])
        else:
            daemon.teach([{"example": a["example"], "label": "l9"}])
    fresh.teach([{**item, "label": "l9"} for item in items[2:90:3]] + items[90:])
    asked = [i["text"] for i in corpus(300)[::2]]
    assert_same(scores(daemon, "default", asked), scores(fresh, "default", asked))


def test_wait_applied_is_seen_by_the_next_answer(shared, model):
    """Every time, from another connection."""
    other = Daemon(shared.state, shared.log)
    other.url = shared.url
    for i in range(60):
        answer = shared.teach([(f"unlike any other {i}", f"label {i}")], model=model)
        asked = other.ask(f"unlike any other {i}", model=model)
        assert asked["version"] == answer["version"]
        assert asked["results"][0]["label"] == f"label {i}"
