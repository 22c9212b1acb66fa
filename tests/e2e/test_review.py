"""What annotators look at: /review (planted wrong labels, contradictions, twins, influence), /next
(doubt, novelty, distance, the even share), and the cap on an annotator's rate."""
import random
import threading

import pytest

from learnd_process import TINY, problem_of
from test_ctl import run

LABELS = "abcd"
WORDS = [w for w in (TINY / "vocab.txt").read_text("utf-8").split() if w.isalpha() and len(w) > 2]


def texts(seed, n):
    """n texts as {text: its right label}: words of the label's own topic."""
    rng = random.Random(seed)
    words = rng.sample(WORDS, 24)
    topics = {label: words[i::4] for i, label in enumerate(LABELS)}
    made = {}
    while len(made) < n:
        label = LABELS[len(made) % 4]
        made[" ".join(rng.choice(topics[label]) for _ in range(6))] = label
    return made


def new_model(daemon, name, **settings):
    daemon.post("/v1/models", {"name": name, "settings": settings}, expect=201)
    return f"/v1/models/{name}"


@pytest.fixture(scope="module")
def planted(shared):
    """200 texts taught by one annotator, every 13th wrongly: (daemon, right, wrong)."""
    right = texts(1, 200)
    wrong = {t: LABELS[(LABELS.index(label) + 1) % 4]
             for i, (t, label) in enumerate(right.items()) if i % 13 == 5}
    new_model(shared, "planted")
    shared.teach([{"text": t, "label": wrong.get(t, label), "annotator": "one"}
                  for t, label in right.items()], model="planted")
    shared.settle("planted")
    return shared, right, wrong


def review(daemon, model, kind=None, limit=1000):
    """Every row, page by page; the head of the last page."""
    rows, query = [], f"limit={limit}" + (f"&kind={kind}" if kind else "")
    page = daemon.get(f"/v1/models/{model}/review?{query}")
    while True:
        assert len(page["items"]) <= limit
        rows += page["items"]
        if page["next_cursor"] is None:
            return rows, page
        page = daemon.get(f"/v1/models/{model}/review?{query}&cursor={page['next_cursor']}")


# ---- likely wrong

@pytest.mark.sanitizer
def test_planted_labels_are_listed(planted):
    daemon, right, wrong = planted
    rows, head = review(daemon, "planted")
    assert head["settled"] is True and head["examined"] == 200
    assert head["version"] == daemon.get("/v1/models/planted")["version"]
    assert head["suspects"] == len(rows) and head["distrusted"] is True
    assert head["distrusted_share"] == pytest.approx(len(rows) / 200, rel=1e-6)
    margins = [r["margin"] for r in rows]
    assert all(b - a < 1e-4 for a, b in zip(margins, margins[1:])), "the most doubtful first"
    assert margins[-1] > 0.2
    found = {r["text"] for r in rows}
    assert len(found & wrong.keys()) >= 0.7 * len(wrong), "most of what was planted is listed"
    first = [r["text"] in wrong for r in rows[:len(wrong) // 2]]
    assert sum(first) >= 0.7 * len(first), "and stands first"
    for r in rows:
        assert r["kind"] == "likely_wrong" and r["label"] == wrong.get(r["text"], right[r["text"]])
        assert r["votes"] == [{"label": r["label"], "for": ["one"], "against": []}]
        assert r["annotators"] == 1 and r["other"] != r["label"] and "twin" not in r
        assert daemon.get(f"/v1/examples/{r['example']}")["text"] == r["text"]
    named = [r["other"] == right[r["text"]] for r in rows if r["text"] in wrong]
    assert sum(named) >= 0.7 * len(named), "mostly it names the right label"


def test_pages_are_stable(planted):
    daemon, _, _ = planted
    whole, _ = review(daemon, "planted", "likely_wrong")
    assert len(whole) > 7
    for limit in (1, 2, 7, len(whole) - 1, len(whole)):
        assert review(daemon, "planted", "likely_wrong", limit)[0] == whole
    assert review(daemon, "planted")[0] == whole, "there is nothing else"
    for kind in ("contradicting", "duplicate", "influence"):
        assert review(daemon, "planted", kind)[0] == []


def test_cursors_from_elsewhere(planted):
    daemon, _, _ = planted
    new_model(daemon, "elsewhere")
    cursor = daemon.get("/v1/models/planted/review?limit=1")["next_cursor"]
    of_kind = daemon.get("/v1/models/planted/review?limit=1&kind=likely_wrong")["next_cursor"]
    examples = daemon.get("/v1/models/planted/examples?limit=1")["next_cursor"]
    for path, wrong in (("elsewhere/review?", cursor), ("planted/review?", of_kind),
                        ("planted/review?kind=duplicate&", of_kind),
                        ("planted/review?", examples), ("planted/examples?", cursor)):
        assert daemon.problem("GET", f"/v1/models/{path}cursor={wrong}") == \
            (422, "invalid_cursor", "cursor")


@pytest.mark.sanitizer
@pytest.mark.parametrize("settle_by", ["agreeing", "relabel", "delete", "withdraw"])
def test_a_second_vote_settles(shared, settle_by):
    """The row leaves the answer with the vote, not with the next audit; and does not come back."""
    model = f"second-{settle_by}"
    right = texts(2, 120)
    new_model(shared, model)
    shared.teach([{"text": t, "label": "d" if i % 13 == 4 else label, "annotator": "one"}
                  for i, (t, label) in enumerate(right.items())], model=model)
    shared.settle(model)
    before, _ = review(shared, model)
    row, rest = before[0], before[1:]
    body = {"model": model, "example": row["example"], "wait": "durable"}
    if settle_by == "agreeing":
        shared.post("/v1/feedback", {**body, "label": row["label"], "annotator": "two"}, 202)
    elif settle_by == "relabel":
        shared.post("/v1/feedback", {**body, "label": row["other"], "annotator": "one"}, 202)
    elif settle_by == "withdraw":
        shared.post("/v1/feedback", {**body, "action": "withdraw", "annotator": "one"}, 202)
    else:
        shared.delete(f"/v1/examples/{row['example']}")
    at_once, _ = review(shared, model, "likely_wrong")
    assert row["example"] not in {r["example"] for r in at_once}
    if settle_by == "agreeing":
        assert {r["example"] for r in rest} <= {r["example"] for r in at_once}
    shared.settle(model)
    after, head = review(shared, model)
    assert head["settled"] is True
    assert row["example"] not in {r["example"] for r in after if r["kind"] == "likely_wrong"}
    if settle_by == "agreeing":
        assert shared.get(f"/v1/examples/{row['example']}")["annotators"] == 2
        assert head["examined"] == 119, "what two agree on is not examined again"


def test_before_the_first_audit(shared, model):
    rows, head = review(shared, model)
    assert rows == [] and head["examined"] == head["suspects"] == 0
    assert head["distrusted"] is False and head["distrusted_share"] == 0


def test_review_after_a_restart(make_daemon):
    right = texts(3, 120)
    daemon = make_daemon().start()
    daemon.teach([{"text": t, "label": "d" if i % 13 == 4 else label, "annotator": "one"}
                  for i, (t, label) in enumerate(right.items())])
    daemon.settle()
    before = review(daemon, "default")
    daemon.restart()
    daemon.settle()
    after = review(daemon, "default")
    assert len(before[0]) > 0 and before[1]["suspects"] == after[1]["suspects"]
    for old, new in zip(before[0], after[0], strict=True):
        assert new.pop("margin") == pytest.approx(old.pop("margin"), rel=1e-5)
        assert old == new


# ---- contradictions and twins

@pytest.mark.sanitizer
def test_contradictions(shared, model):
    def say(text, label, annotator, **more):
        return shared.teach([{"text": text, "label": label, "annotator": annotator, **more}],
                            model=model)["accepted"][0]["example"]
    say("agreed", "x", "ann")
    say("agreed", "x", "bob")
    say("alone", "x", "ann")
    uneven = say("uneven", "x", "ann", weight=3)
    say("uneven", "y", "bob")
    tie = say("tie", "x", "ann")
    say("tie", "y", "bob")
    shared.post("/v1/feedback", {"model": model, "example": uneven, "label": "y",
                                 "action": "reject", "annotator": "cid", "weight": 0.5}, 202)
    rows, _ = review(shared, model, "contradicting")
    assert [r["example"] for r in rows] == [tie, uneven], "the nearest to a tie first"
    assert rows[0]["margin"] == pytest.approx(0) and rows[0]["annotators"] == 2
    assert rows[0]["votes"] == [{"label": "x", "for": ["ann"], "against": []},
                                {"label": "y", "for": ["bob"], "against": []}]
    assert (rows[1]["label"], rows[1]["other"]) == ("x", "y")
    assert rows[1]["margin"] == pytest.approx((3 - 0.5) / 3.5)
    assert rows[1]["votes"][1] == {"label": "y", "for": ["bob"], "against": ["cid"]}
    assert review(shared, model, "contradicting", 1)[0] == rows
    say("tie", "x", "bob")
    rows, _ = review(shared, model, "contradicting")
    assert [r["example"] for r in rows] == [uneven], "bob gave in"


@pytest.mark.sanitizer
def test_twins(shared, model):
    """One embedding, two labels: the tokenizer does not see case."""
    shared.teach([("where is my card", "x"), ("WHERE is my card", "y"), ("where is MY card", "y"),
                  ("good money", "x"), ("GOOD money", "x"), ("rain and sun", "y")], model=model)
    shared.settle(model)
    rows, _ = review(shared, model, "duplicate")
    texts_of = [{r["text"], r["twin"]["text"]} for r in rows]
    assert 1 <= len(rows) <= 2 and all({t.lower() for t in both} == {"where is my card"}
                                       for both in texts_of)
    for r in rows:
        assert r["label"] != r["other"] and r["margin"] is None
        assert shared.get(f"/v1/examples/{r['example']}")["label"] == r["label"]
        assert shared.get(f"/v1/examples/{r['twin']['example']}")["label"] == r["other"]
    assert review(shared, model, "duplicate", 1)[0] == rows
    shared.teach([("where is my card", "y")], model=model, wait="durable")
    assert review(shared, model, "duplicate")[0] == [], "at once"
    shared.settle(model)
    assert review(shared, model, "duplicate")[0] == []


@pytest.mark.sanitizer
def test_influence(shared):
    path = new_model(shared, "influence")
    shared.teach([{"text": f"text {i}", "label": "x", "annotator": "ann" if i < 9 else "bob"}
                  for i in range(12)] +
                 [{"text": f"other {i}", "label": "y"} for i in range(3)], model="influence")
    assert review(shared, "influence", "influence")[0] == [], "off by default"
    shared.patch(path, {"settings": {"annotator_influence_max": 0.7}})
    rows, _ = review(shared, "influence")
    assert [r for r in rows if r["kind"] == "influence"] == [
        {"kind": "influence", "label": "y", "annotator": None, "share": 1, "examples": 3},
        {"kind": "influence", "label": "x", "annotator": "ann", "share": 0.75, "examples": 9}]
    assert [r["label"] for r in review(shared, "influence", "influence", 1)[0]] == ["y", "x"]
    shared.patch(path, {"settings": {"annotator_influence_max": 0.8}})
    assert [r["label"] for r in review(shared, "influence", "influence")[0]] == ["y"]


# ---- what to label next

@pytest.fixture(scope="module")
def asked(shared):
    """A model that was asked 90 texts it was not taught: (daemon, those texts)."""
    right = list(texts(4, 240).items())
    new_model(shared, "asked")
    shared.teach(right[:150], model="asked")
    shared.settle("asked")
    new = [t for t, _ in right[150:]]
    shared.ask(new + new[:20] + [t for t, _ in right[:30]], model="asked")
    shared.ask([t.upper() for t, _ in right[:30]], model="asked")
    shared.ask(["kept to itself"], model="asked", store=False)
    return shared, new


def following(daemon, query=""):
    return daemon.get(f"/v1/models/asked/next{query}")


@pytest.mark.sanitizer
def test_next(asked):
    daemon, new = asked
    answer = following(daemon, "?limit=30")
    assert answer["candidates"] == len(new), "each once, and nothing that is taught"
    assert answer["random_share"] == 0.2 and answer["seed"] == 0
    rows = answer["items"]
    assert len({r["text"] for r in rows}) == len(rows) <= 30
    assert {r["text"] for r in rows} <= set(new)
    assert [i for i, r in enumerate(rows) if r["why"] == "random"] == [2, 7, 12, 17, 22, 27]
    assert {"uncertain", "diverse"} <= {r["why"] for r in rows}
    for r in rows:
        seen = daemon.get(f"/v1/requests/{r['request_id']}")
        assert seen["label"] == r["label"] and seen["score"] == r["score"]


@pytest.mark.sanitizer
def test_next_is_the_same_until_something_changes(asked):
    daemon, _ = asked
    first = following(daemon, "?limit=20&seed=5")
    assert following(daemon, "?limit=20&seed=5") == first
    drawn = [{r["text"] for r in following(daemon, f"?limit=20&seed={s}")["items"]
              if r["why"] == "random"} for s in range(6)]
    assert all(len(d) == 4 for d in drawn) and len({frozenset(d) for d in drawn}) > 1


def test_random_share(asked):
    daemon, new = asked
    for share, count in ((0, 0), (0.5, 10), (1, 20)):
        answer = following(daemon, f"?limit=20&random_share={share}")
        assert sum(r["why"] == "random" for r in answer["items"]) == count
        assert answer["random_share"] == share
    everything = following(daemon, "?limit=1000&random_share=1")["items"]
    assert {r["text"] for r in everything} == set(new)
    counts = dict.fromkeys(new, 0)
    for seed in range(100):
        for r in following(daemon, f"?limit=18&random_share=1&seed={seed}")["items"]:
            counts[r["text"]] += 1
    assert sum(counts.values()) == 1800 and max(counts.values()) < 45, "20 each, if even"
    assert min(counts.values()) > 3


def test_next_prefers_doubt(asked):
    """What is chosen for its worth is less sure, or stranger, than what is drawn."""
    daemon, _ = asked
    worth = [r["score"] for r in following(daemon, "?limit=20&random_share=0")["items"]
             if r["why"] == "uncertain"]
    even = [r["score"] for r in following(daemon, "?limit=90&random_share=1")["items"]]
    assert max(worth) < sum(even) / len(even) < 1


def test_near_duplicates_are_not_proposed_together(asked):
    daemon, _ = asked
    rows = following(daemon, "?limit=90&random_share=0")["items"]
    vectors = daemon.post("/v1/embed", {"inputs": [r["text"] for r in rows],
                                        "model": "asked"})["embeddings"]
    assert 1 < len(rows) < 90
    for i, u in enumerate(vectors):
        for v in vectors[:i]:
            assert sum(x * y for x, y in zip(u, v, strict=True)) < 0.985


@pytest.mark.sanitizer
def test_what_was_taught_is_not_proposed(shared, model):
    shared.teach([("good money", "x"), ("rain and sun", "y")], model=model)
    asked_for = ["where is my card", "how is the weather", "play this song"]
    shared.ask(asked_for, model=model)
    path = f"/v1/models/{model}/next"
    rows = {r["text"]: r for r in shared.get(path)["items"]}
    assert set(rows) == set(asked_for)
    shared.post("/v1/feedback", {"model": model, "label": "x", "wait": "durable",
                                 "request_id": rows["where is my card"]["request_id"]}, 202)
    assert {r["text"] for r in shared.get(path)["items"]} == set(asked_for[1:]), "at once"
    shared.teach([("HOW is the weather", "y")], model=model)
    assert {r["text"] for r in shared.get(path)["items"]} == {asked_for[2]}, \
        "another text of the same embedding"
    example = shared.get(f"/v1/models/{model}/examples?q=where")["examples"][0]["example"]
    shared.delete(f"/v1/examples/{example}")
    assert {r["text"] for r in shared.get(path)["items"]} == {asked_for[2]}, \
        "a deleted text is forgotten by the recent requests too"


def test_next_of_an_empty_model(shared, model):
    path = f"/v1/models/{model}/next"
    assert shared.get(path)["items"] == [] and shared.get(path)["candidates"] == 0
    shared.ask(["where is my card", {"text": "rain", "text_pair": "sun"}][:1], model=model)
    shared.ask([{"text": "rain", "text_pair": "sun"}], model=model)
    rows = {r["text"]: r for r in shared.get(path)["items"]}
    assert rows["rain"]["text_pair"] == "sun" and rows["rain"]["label"] is None
    assert "text_pair" not in rows["where is my card"]


@pytest.mark.sanitizer
def test_while_traffic_goes_on(shared):
    """Asking, teaching, reviewing and choosing at once: every answer is whole."""
    new_model(shared, "busy", annotator_rate_max=1000000, annotator_influence_max=0.1)
    right = list(texts(6, 300).items())
    failed = []

    def work(what):
        other = type(shared)(shared.state, shared.log)
        other.url = shared.url
        try:
            for i in range(30):
                what(other, i)
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)

    def ask(d, i):
        d.ask([t for t, _ in right[i * 10:i * 10 + 10]] + [f"text {i}"], model="busy",
              explain=True, top_k=4)

    def teach(d, i):
        d.teach([{"text": t, "label": LABELS[(i + j) % 4], "annotator": f"a{j % 3}"}
                 for j, (t, _) in enumerate(right[i * 5:i * 5 + 20])], model="busy")

    def choose(d, i):
        rows = d.get(f"/v1/models/busy/next?limit=30&seed={i}")["items"]
        assert len({r["text"] for r in rows}) == len(rows)

    def look(d, i):
        rows, _ = review(d, "busy", limit=50)
        assert all(r["kind"] == "influence" or r["votes"] for r in rows)

    threads = [threading.Thread(target=work, args=(w,)) for w in (ask, teach, choose, look)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == []


# ---- the cap on an annotator's rate

@pytest.mark.sanitizer
def test_rate_of_an_annotator(shared):
    path = new_model(shared, "rate", annotator_rate_max=2)

    def item(i, **more):
        return {"model": "rate", "text": f"text {i}", "label": "x", "annotator": "ann", **more}
    answer = shared.post("/v1/feedback", {"items": [item(i) for i in range(4)]}, expect=202)
    assert len(answer["accepted"]) == 2
    assert [(r["index"], r["code"], r["field"]) for r in answer["rejected"]] == \
        [(2, "rate_limited", "annotator"), (3, "rate_limited", "annotator")]
    refused = shared.call("POST", "/v1/feedback", item(6))
    assert problem_of(refused) == (429, "rate_limited", "annotator")
    assert int(refused.headers["Retry-After"]) > 0
    lines = shared.ndjson([item(7), item(8, annotator="bob")])
    assert [r["code"] for r in lines["rejected"]] == ["rate_limited"]
    assert lines["accepted_count"] == 1, "another annotator has a rate of their own"
    assert shared.get(path)["examples"] == 3, "nothing of what was refused is kept"
    for _ in range(9):  # what is refused anyway does not count
        assert shared.problem("POST", "/v1/feedback", item(9, annotator="cid", request_id="no",
                                                           text=None))[0] == 422
        assert shared.problem("POST", "/v1/feedback", {
            "model": "rate", "request_id": "no", "label": "x", "annotator": "cid"})[0] == 404
    shared.post("/v1/feedback", item(9, annotator="cid"), expect=202)
    shared.patch(path, {"settings": {"annotator_rate_max": 0}})
    shared.post("/v1/feedback", {"items": [item(i) for i in range(20)]}, expect=202)
    assert shared.get(path)["examples"] == 20
    shared.post("/v1/feedback", item(6) | {"model": "default"}, expect=202)


# ---- learnctl

def test_learnctl(planted, asked):
    daemon, _, wrong = planted
    url = ["--url", daemon.url]
    out, err = run("review", *url, "-m", "planted", "-n", 3)
    lines = out.splitlines()
    assert lines[0].split() == ["kind", "label", "or", "margin", "votes", "example", "text"]
    assert len(lines) == 4 and all(line.startswith("likely_wrong") for line in lines[1:])
    assert any(t in lines[1] for t in wrong) and "there are more" in err
    out, _ = run("review", *url, "-m", "planted", "--kind", "duplicate")
    assert "likely_wrong" not in out
    _, err = run("review", *url, "-m", "planted", "--kind", "nonsense", code=1)
    assert "invalid_value" in err and "kind" in err
    out, _ = run("next", *url, "-m", "asked", "-n", 10, "--seed", 3)
    rows = out.splitlines()
    assert rows[0].split() == ["why", "label", "score", "novelty", "request", "text"]
    assert len(rows) == 11 and sum(row.startswith("random") for row in rows) == 2
    out, _ = run("next", *url, "-m", "asked", "-n", 10, "--random-share", 1, "--json")
    assert out.count('"why":"random"') == 10
    _, err = run("next", *url, "-m", "asked", "--seed", "x", code=1)
    assert "seed" in err
    run("review", *url, "extra", code=2)
