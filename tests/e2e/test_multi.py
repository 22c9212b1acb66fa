"""Models of kind multi: a text has a set of labels, perhaps none."""
import json

import pytest

from test_ctl import run
from test_erase import SCOPES, erase, spellings, where

FEEDBACK = "/v1/feedback"
TOPICS = {"card": "card lost stolen", "cash": "cash machine money", "pin": "pin code password"}
TAILS = ["please", "now", "when", "from account", "for me", "why", "how", "old", "new", "help"]


@pytest.fixture
def multi(shared, model):
    name = f"{model}-multi"
    made = shared.post("/v1/models", {"name": name, "kind": "multi"}, expect=201)
    assert made["kind"] == "multi"
    return name


def lessons(count=10):
    """Texts of one topic, of two, and of none."""
    names = list(TOPICS)
    for i, tail in enumerate(TAILS[:count]):
        for k, name in enumerate(names):
            other = names[(k + 1) % 3]
            yield {"text": f"{TOPICS[name]} {tail}", "labels": [name]}
            yield {"text": f"{TOPICS[name]} {TOPICS[other]} {tail}", "labels": [other, name]}
        yield {"text": f"hello good day {tail} thanks {i}", "labels": []}


@pytest.fixture
def taught(shared, multi):
    shared.teach(list(lessons()), model=multi)
    shared.settle(multi)
    return multi


def say(shared, model, text, **fields):
    """One correction, applied; the example's id."""
    body = {"model": model, "wait": "applied", **fields}
    if text is not None:
        body["text"] = text
    return shared.post(FEEDBACK, body, expect=202)["accepted"][0]["example"]


def row(shared, example):
    """(status, {label: share})."""
    got = shared.get(f"/v1/examples/{example}")
    return got["status"], {s["label"]: pytest.approx(s["share"]) for s in got["labels"]}


def one(shared, model, text, **fields):
    return shared.ask(text, model=model, **fields)["results"][0]


def names(result):
    return [s["label"] for s in result["labels"]]


# ---- asking

@pytest.mark.sanitizer
def test_an_empty_model_abstains(shared, multi):
    result = one(shared, multi, "anything")
    assert result["label"] is None and result["abstain"] is True and result["labels"] == []


def test_answers_are_sets(shared, taught):
    for tail in TAILS:
        single = one(shared, taught, f"{TOPICS['card']} {tail}")
        assert names(single) == ["card"] and single["label"] == "card"
        both = one(shared, taught, f"{TOPICS['card']} {TOPICS['cash']} {tail}")
        assert sorted(names(both)) == ["card", "cash"] and both["label"] == names(both)[0]
        assert both["score"] == both["labels"][0]["score"]
        assert both["labels"][0]["score"] + both["labels"][1]["score"] > 1.01
    none = one(shared, taught, "hello good day please thanks 0")
    assert none["label"] is None and none["labels"] == [] and none["abstain"] is True
    assert 0 < none["score"] < 0.5


def test_options_override(shared, taught):
    text = f"{TOPICS['card']} please"
    every = one(shared, taught, text, top_k=3)
    assert names(every)[0] == "card" and len(every["labels"]) == 3
    assert one(shared, taught, text, threshold=0.0)["labels"] == every["labels"]
    assert one(shared, taught, text, threshold=0.0, top_k=2)["labels"] == every["labels"][:2]
    strict = one(shared, taught, text, threshold=1.0)
    assert strict["labels"] == [] and strict["label"] is None and strict["abstain"] is True
    some = one(shared, taught, text, labels=["cash", "pin"], top_k=3)
    scores = {s["label"]: s["score"] for s in every["labels"]}
    assert {s["label"]: s["score"] for s in some["labels"]} == \
        {k: scores[k] for k in ("cash", "pin")}  # one label's probability is no other's business


def test_explain_says_the_thresholds(shared, taught):
    text = f"{TOPICS['card']} please"
    result = one(shared, taught, text, explain=True, top_k=3)
    for s in result["labels"]:
        assert 0 < s["threshold"] < 1
        assert (s["score"] >= s["threshold"]) == (s["label"] == "card")
    near = {b["text"]: b["label"] for b in result["because"]}
    assert near[text] == "card"
    assert [s["threshold"] for s in one(shared, taught, text, explain=True, threshold=0.25)
            ["labels"]] == [0.25]
    assert all("threshold" not in s for s in one(shared, taught, text, top_k=3)["labels"])
    none = one(shared, taught, "hello good day please thanks 0", explain=True)
    assert none["because"][0]["label"] is None


def test_score_min(shared, taught):
    text = f"{TOPICS['card']} please"
    shared.patch(f"/v1/models/{taught}", {"settings": {"score_min": 1.0}})
    result = one(shared, taught, text)
    assert result["label"] == "card" and result["abstain"] is True


# ---- votes

@pytest.mark.sanitizer
def test_a_set_replaces_the_annotators_set(shared, multi):
    example = say(shared, multi, "t", labels=["a", "b"], annotator="ann")
    assert row(shared, example) == ("active", {"a": 1, "b": 1})
    say(shared, multi, "t", labels=["c"], annotator="ann")
    assert row(shared, example) == ("active", {"c": 1})
    say(shared, multi, "t", label="a", annotator="ann")
    assert row(shared, example) == ("active", {"a": 1})
    say(shared, multi, "t", labels=[], annotator="ann")
    assert row(shared, example) == ("active", {})
    assert shared.get(f"/v1/models/{multi}")["examples"] == 1


def test_shares_are_of_weight(shared, multi):
    say(shared, multi, "t", labels=["a", "b"], annotator="ann", weight=3)
    say(shared, multi, "t", labels=["b"], annotator="bob")
    example = say(shared, multi, "t", labels=[], annotator="cy", weight=2)
    assert row(shared, example) == ("active", {"a": 0.5, "b": pytest.approx(4 / 6)})
    got = shared.get(f"/v1/examples/{example}")
    assert got["annotators"] == 3 and got["weight"] == pytest.approx(2) and got["label"] == "b"


def test_reject(shared, multi):
    example = say(shared, multi, "t", labels=["a", "b", "c"], annotator="ann", weight=2)
    say(shared, multi, "t", action="reject", label="a", annotator="ann")
    assert row(shared, example) == ("active", {"b": 1, "c": 1})
    say(shared, multi, "t", action="reject", labels=["b", "c"], annotator="bob", weight=1)
    assert row(shared, example) == ("active", {"b": 0.5, "c": 0.5})
    say(shared, multi, None, example=example, action="reject", annotator="cy")
    assert row(shared, example) == ("active", {})
    lone = say(shared, multi, "u", action="reject", label="a")
    assert row(shared, lone) == ("rejected", {})
    assert shared.problem("POST", FEEDBACK, {"model": multi, "example": lone,
                                             "action": "confirm"}) == \
        (422, "unknown_label", "label")


def test_withdraw(shared, multi):
    example = say(shared, multi, "t", labels=[], annotator="ann")
    say(shared, multi, "t", labels=["a"], annotator="bob")
    assert row(shared, example) == ("active", {"a": 0.5})
    say(shared, multi, None, example=example, action="withdraw", annotator="ann")
    assert row(shared, example) == ("active", {"a": 1})
    say(shared, multi, None, example=example, action="withdraw")
    assert row(shared, example) == ("withdrawn", {})
    assert shared.problem("POST", FEEDBACK, {"model": multi, "example": example, "annotator": "bob",
                                             "action": "withdraw"}) == (404, "no_vote", "annotator")


@pytest.mark.sanitizer
def test_confirm_and_reject_what_was_answered(shared, taught):
    text = f"{TOPICS['card']} {TOPICS['cash']} again"
    asked = one(shared, taught, text)
    assert sorted(names(asked)) == ["card", "cash"]
    example = say(shared, taught, None, request_id=asked["request_id"], action="confirm")
    assert row(shared, example) == ("active", {"card": 1, "cash": 1})
    say(shared, taught, None, request_id=asked["request_id"], action="reject", label="cash")
    assert row(shared, example) == ("active", {"card": 1})
    say(shared, taught, None, request_id=asked["request_id"], action="reject")
    assert row(shared, example) == ("active", {})
    none = one(shared, taught, "hello good day please thanks 0")
    example = say(shared, taught, None, request_id=none["request_id"], action="confirm",
                  annotator="bot")
    assert row(shared, example) == ("active", {})
    assert shared.get(f"/v1/examples/{example}")["annotators"] == 2
    assert shared.problem("POST", FEEDBACK, {"model": taught, "request_id": none["request_id"],
                                             "action": "reject"}) == (422, "missing_field", "label")
    example = say(shared, taught, None, request_id=none["request_id"], labels=["pin", "cash"],
                  annotator="bot")
    assert row(shared, example) == ("active", {"pin": 0.5, "cash": 0.5})


def test_confirm_an_example(shared, multi):
    example = say(shared, multi, "t", labels=["a", "b"], annotator="ann")
    say(shared, multi, None, example=example, action="confirm", annotator="bob")
    got = shared.get(f"/v1/examples/{example}")
    assert got["annotators"] == 2 and row(shared, example) == ("active", {"a": 1, "b": 1})


def test_a_set_has_no_order(shared, multi):
    """The same key with the same set is the same item."""
    body = {"model": multi, "text": "t", "labels": ["a", "b"], "idempotency_key": "k"}
    first = shared.post(FEEDBACK, body, expect=202)["accepted"][0]
    again = shared.post(FEEDBACK, {**body, "labels": ["b", "a"]}, expect=202)["accepted"][0]
    assert again["duplicate"] is True and again["seq"] == first["seq"]
    assert shared.problem("POST", FEEDBACK, {**body, "labels": ["b"]}) == \
        (409, "idempotency_conflict", "idempotency_key")


def test_lists(shared, multi):
    say(shared, multi, "t", labels=["a", "b"])
    say(shared, multi, "u", labels=["b"])
    say(shared, multi, "v", labels=[])
    labels = shared.get(f"/v1/models/{multi}/labels")["labels"]
    assert {x["label"]: x["examples"] for x in labels} == {"a": 1, "b": 2}
    found = shared.get(f"/v1/models/{multi}/examples?label=b")["examples"]
    assert [e["text"] for e in found] == ["t", "u"]
    assert [e["text"] for e in shared.get(f"/v1/models/{multi}/examples?status=active")
            ["examples"]] == ["t", "u", "v"]
    say(shared, multi, "t", labels=["a"])
    labels = shared.get(f"/v1/models/{multi}/labels")["labels"]
    assert {x["label"]: x["examples"] for x in labels} == {"a": 1, "b": 1}
    assert [m["kind"] for m in shared.get("/v1/models?limit=1000")["models"]
            if m["name"] == multi] == ["multi"]


# ---- the model is a function of its set

def answers(daemon, model):
    texts = [x["text"] for x in lessons(4)] + ["pin", "card code"]
    return [{s["label"]: s["score"] for s in r["labels"]}
            for r in daemon.ask(texts, model=model, top_k=3)["results"]]


def same(left, right):
    for a, b in zip(left, right):
        assert a == pytest.approx(b, abs=1e-6)


def test_order_forgetting_and_restart(daemon):
    for name in ("one", "two"):
        daemon.post("/v1/models", {"name": name, "kind": "multi"}, expect=201)
    items = list(lessons())
    daemon.post("/v1/models/two/labels", {"label": "cash"}, expect=201)  # another order of columns
    daemon.teach(items, model="one")
    extra = daemon.teach([{"text": f"noise {i}", "labels": ["pin", "card"]} for i in range(9)],
                         model="two")
    daemon.teach(items[::-1], model="two")
    for accepted in extra["accepted"]:
        daemon.delete(f"/v1/examples/{accepted['example']}")
    before = answers(daemon.settle("one"), "one")
    same(before, answers(daemon.settle("two"), "two"))
    daemon.restart()
    assert daemon.get("/v1/models/one")["kind"] == "multi"
    assert answers(daemon.settle("one"), "one") == before
    daemon.teach([{"text": "pin", "labels": []}, {"text": "card code", "labels": ["pin", "card"]}],
                 model="one", wait="durable")
    daemon.kill9()
    daemon.start()
    after = answers(daemon.settle("one"), "one")
    assert after[-2]["pin"] < before[-2]["pin"] and after[-1]["card"] > before[-1]["card"]
    daemon.teach([{"text": "pin", "labels": []}, {"text": "card code", "labels": ["pin", "card"]}],
                 model="two")
    same(after, answers(daemon.settle("two"), "two"))


# ---- bad input

@pytest.mark.parametrize("item, expected", [
    ({"text": "t", "labels": ["a", "a"]}, (422, "invalid_value", "labels")),
    ({"text": "t", "labels": "a"}, (422, "wrong_type", "labels")),
    ({"text": "t", "labels": [1]}, (422, "wrong_type", "labels[0]")),
    ({"text": "t", "labels": ["a", ""]}, (422, "invalid_name", "labels[1]")),
    ({"text": "t", "labels": [f"l{i}" for i in range(1001)]}, (422, "out_of_range", "labels")),
    ({"text": "t", "label": "a", "labels": ["b"]}, (422, "conflicting_fields", "labels")),
    ({"text": "t", "action": "reject", "label": "a", "labels": ["a", "b"]},
     (422, "conflicting_fields", "labels")),
    ({"text": "t", "action": "reject", "labels": []}, (422, "out_of_range", "labels")),
    ({"text": "t", "action": "reject", "labels": ["known", "unknown"]},
     (422, "unknown_label", "labels")),
    ({"text": "t", "labels": ["known", "unknown"], "create_labels": False},
     (422, "unknown_label", "labels")),
    ({"text": "t"}, (422, "missing_field", "label")),
    ({"example": "0" * 32, "action": "withdraw", "labels": []},
     (422, "conflicting_fields", "labels")),
    ({"example": "0" * 32, "action": "confirm"}, (404, "unknown_example", "example")),
])
def test_bad_items(shared, multi, item, expected):
    say(shared, multi, "other", label="known")
    before = shared.get(f"/v1/models/{multi}")
    assert shared.problem("POST", FEEDBACK, {"model": multi, **item}) == expected
    after = shared.get(f"/v1/models/{multi}")
    for key in ("version", "examples", "labels"):
        assert after[key] == before[key]


def test_a_single_model_takes_one_label(shared, model):
    example = say(shared, model, "t", labels=["x"])
    assert row(shared, example) == ("active", {"x": 1})
    for labels in ([], ["x", "y"]):
        assert shared.problem("POST", FEEDBACK, {"model": model, "text": "t", "labels": labels}) \
            == (422, "kind_unsupported", "labels")


def test_bad_items_in_a_stream(shared, multi):
    lines = [{"text": "t", "labels": ["a", "b"]}, {"text": "u", "labels": ["a", "a"]},
             {"text": "v", "labels": []}]
    got = shared.ndjson([{"model": multi, **x} for x in lines])
    assert got["accepted_count"] == 2
    assert [(r["index"], r["code"], r["field"]) for r in got["rejected"]] == \
        [(1, "invalid_value", "labels")]
    assert json.dumps(got).count("label_created") == 1


# ---- learnctl

@pytest.fixture
def ctl(shared, multi):
    def call(*args, model=multi, code=0):
        env = {"LEARNCTL_URL": shared.url, "LEARNCTL_MODEL": model}
        return run(*args, env=env, code=code)
    return call


def held(shared, model):
    """{text: (shares, weight)} of a model."""
    return {e["text"]: ({s["label"]: pytest.approx(s["share"]) for s in e["labels"]},
                        pytest.approx(e["weight"]))
            for e in shared.get(f"/v1/models/{model}/examples?status=active")["examples"]}


def test_ctl_teaches_sets(shared, multi, ctl):
    ctl("teach", "--label", "a", "--label", "b", "one text", "two text")
    ctl("teach", "--none", "three text")
    ctl("teach", "c", "four text")
    assert held(shared, multi) == {"one text": ({"a": 1, "b": 1}, 1), "two text": ({"a": 1, "b": 1}, 1),
                                   "three text": ({}, 1), "four text": ({"c": 1}, 1)}
    ctl("reject", "--text", "one text", "--label", "a", "--label", "b")
    assert held(shared, multi)["one text"] == ({}, 1)
    assert "--none or --label" in ctl("teach", "--none", "--label", "a", "text", code=2)[1]
    assert "kind_unsupported" in ctl("models", "create", f"{multi}-x", "--kind", "tokens", code=1)[1]
    ctl("models", "create", f"{multi}-y", "--kind", "multi", "features=64")
    assert shared.get(f"/v1/models/{multi}-y")["kind"] == "multi"


def test_ctl_imports_what_it_exported(shared, multi, ctl, tmp_path):
    rows = [{"text": "agreed", "labels": ["a", "b"]}, {"text": "none", "labels": []},
            {"text": "one", "label": "a", "weight": 2.5},
            {"text": "torn", "labels": ["a", "b"], "annotator": "ann", "weight": 2},
            {"text": "torn", "labels": ["b", "c"], "annotator": "bob", "weight": 1},
            {"text": "torn", "labels": [], "annotator": "cid", "weight": 3}]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    ctl("import", str(file))
    before = held(shared, multi)
    assert before["torn"] == ({"a": 1 / 3, "b": 0.5, "c": 1 / 6}, 2)
    assert before["one"] == ({"a": 1}, 2.5) and before["none"] == ({}, 1)
    out = tmp_path / "out.jsonl"
    ctl("export", str(out))
    shared.post("/v1/models", {"name": f"{multi}-2", "kind": "multi"}, expect=201)
    ctl("import", str(out), model=f"{multi}-2")
    assert held(shared, f"{multi}-2") == before
    assert "jsonl" in ctl("export", str(tmp_path / "out.csv"), code=2)[1]
    assert not (tmp_path / "out.csv").exists()


def test_ctl_names_the_bad_rows(ctl, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "t", "labels": ["a"]}\n{"text": "t", "labels": "a"}\n'
                    '{"text": "t", "labels": ["a", 3]}\n{"text": "t"}\n'
                    '{"text": "t", "labels": ["a"], "label": "a"}\n')
    _, err = ctl("import", str(file), code=4)
    for line, field in ((2, "labels"), (3, "labels[1]"), (4, "label"), (5, "labels")):
        assert any(f":{line}:" in x and field in x for x in err.splitlines()), err


def test_ctl_shows_a_set(shared, taught, ctl):
    out, _ = ctl("classify", f"{TOPICS['card']} {TOPICS['cash']} please", model=taught)
    assert {"card", "cash"} <= set(out.split()) and " and" in out and " or" not in out


# ---- labels that change

def test_merged_and_renamed_labels(shared, multi):
    both = say(shared, multi, "t", labels=["a", "b"], annotator="ann")
    one = say(shared, multi, "u", labels=["a"])
    shared.post(f"/v1/models/{multi}/labels/a/merge", {"into": "b"})
    assert row(shared, both) == ("active", {"b": 1}) and row(shared, one) == ("active", {"b": 1})
    labels = shared.get(f"/v1/models/{multi}/labels")["labels"]
    assert {x["label"]: x["examples"] for x in labels if x["status"] == "active"} == {"b": 2}
    say(shared, multi, "v", labels=["a", "c"])  # the old name still means it
    assert [e["text"] for e in shared.get(f"/v1/models/{multi}/examples?label=b")["examples"]] == \
        ["t", "u", "v"]


def test_a_retired_label_is_of_no_text(shared, multi):
    both = say(shared, multi, "t", labels=["a", "b"])
    one = say(shared, multi, "u", labels=["a"])
    shared.delete(f"/v1/models/{multi}/labels/a")
    assert row(shared, both) == ("active", {"b": 1}) and row(shared, one) == ("active", {})
    shared.patch(f"/v1/models/{multi}/labels/a", {"status": "active"})
    assert row(shared, both) == ("active", {"a": 1, "b": 1})


def test_sets_of_several_annotators_are_no_contradiction(shared, multi):
    say(shared, multi, "t", labels=["a", "b"], annotator="ann")
    say(shared, multi, "t", labels=["a", "b"], annotator="bob")
    shared.settle(multi)
    assert shared.get(f"/v1/models/{multi}/review")["items"] == []


def test_evaluation_answers(shared, taught):
    """Prequential figures are of one label against another: of sets there are none yet."""
    got = shared.get(f"/v1/models/{taught}/evaluation")
    assert got["model"] == taught
    fitted = json.dumps(got["fit"]["coefficients"])
    assert json.loads(fitted)["ridge"] > 1 and fitted.count(": 0") == 4, fitted


# ---- erasing

def probabilities(daemon):
    answer = daemon.ask([text for text, _ in SCOPES], model="sets", threshold=0.0)
    return [{s["label"]: s["score"] for s in r["labels"]} for r in answer["results"]]


@pytest.mark.sanitizer
def test_an_annotator_of_sets_is_gone_from_every_byte(make_daemon):
    d, other = make_daemon("d").start(), make_daemon("other").start()
    name = "annotator-Wilhelmina"
    for daemon in (d, other):
        daemon.post("/v1/models", {"name": "sets", "kind": "multi"}, expect=201)
        daemon.teach([{"text": t, "labels": [label, "bank"], "annotator": "bob"}
                      for t, label in SCOPES], model="sets")
        daemon.teach([{"text": "good day", "labels": [], "annotator": "bob"}], model="sets")
    d.teach([{"text": SCOPES[0][0], "labels": ["lost"], "annotator": name, "source": name},
             {"text": SCOPES[1][0], "labels": [], "annotator": name},
             {"text": "good day", "labels": ["card"], "annotator": name},
             {"text": "hers, of no label", "labels": [], "annotator": name},
             {"text": "hers, of two", "labels": ["card", "lost"], "annotator": name,
              "idempotency_key": f"{name}/1"}], model="sets")
    d.settle("sets")
    d.restart()  # an image now holds what was hers
    needles = [*spellings(name), *spellings("hers, of ")]
    assert where(d.state, needles)
    listed = d.get("/v1/models/sets/examples?q=where%20is")["examples"][0]["example"]
    assert row(d, listed) == ("active", {"card": 0.5, "bank": 0.5, "lost": 0.5})
    assert erase(d, annotator=name, model="sets") == {"examples": 2, "votes": 6, "requests": 0}
    assert where(d.state, needles) == []
    assert row(d, listed) == ("active", {"card": 1, "bank": 1})
    for text, labels in ((SCOPES[1][0], {"card": 1, "bank": 1}), ("good day", {})):
        got = d.get("/v1/models/sets/examples", params={"q": text})["examples"][0]
        assert row(d, got["example"]) == ("active", labels) and got["annotators"] == 1
    for _ in range(2):
        for daemon in (d, other):
            daemon.settle("sets")
        for a, b in zip(probabilities(d), probabilities(other), strict=True):
            assert a == pytest.approx(b, abs=1e-6) and a.keys() == {"card", "lost", "bank"}
        d.restart()
    assert where(d.state, needles) == []


def test_a_text_that_has_no_label_is_erased(make_daemon):
    d = make_daemon("d").start()
    d.post("/v1/models", {"name": "sets", "kind": "multi"}, expect=201)
    d.teach([{"text": "of nothing at all", "labels": []}, {"text": "kept", "labels": ["a", "b"]}],
            model="sets")
    d.ask("of nothing at all", model="sets")
    assert erase(d, text="of nothing at all") == {"examples": 1, "votes": 1, "requests": 1}
    assert where(d.state, spellings("of nothing at all")) == []
    assert d.get("/v1/models/sets")["examples"] == 1
