"""Erasing: after the answer the bytes are nowhere in the state folder, and what was learned from
them is unlearned exactly."""
import sqlite3
import struct
import threading

import pytest

PERSON = "my name is Zebulon Quaxley and I live at number 77"
SCOPES = [("where is my card", "card"), ("my card has not come", "card"),
          ("when will the new card arrive", "card"), ("the card is still not here", "card"),
          ("I lost my wallet", "lost"), ("someone took my purse", "lost"),
          ("my bag was stolen on the train", "lost"), ("I cannot find my wallet", "lost")]
PROBES = ["where is my card", "my wallet is gone", "Zebulon Quaxley", "number 77", "hello"]


def spellings(text):
    return [text.encode(e) for e in ("utf-8", "utf-16-le", "utf-16-be")]


def embedding_of(daemon, text):
    """As the store and the images hold it; the first 32 numbers are enough to know it again."""
    vector = daemon.post("/v1/embed", {"inputs": text})["embeddings"][0][:32]
    return struct.pack(f"<{len(vector)}e", *vector)


def where(state, needles):
    """Every (file, needle) of the state folder in which a needle is found."""
    found = []
    for path in sorted(state.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += [(path.name, n[:24]) for n in needles if n in content]
    return found


def scores(daemon, **fields):
    answer = daemon.ask(PROBES, top_k=10, **fields)
    return [{s["label"]: s["score"] for s in r["labels"]} for r in answer["results"]]


def same_scores(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for label, score in a.items():
            assert score == pytest.approx(b[label], abs=1e-6)


def erase(daemon, expect=200, **body):
    return daemon.post("/v1/erase", body, expect)["erased"]


@pytest.mark.sanitizer
def test_a_text_is_gone_from_every_byte(make_daemon):
    d = make_daemon().start()
    d.teach(SCOPES)
    d.teach([{"text": PERSON, "label": "lost", "annotator": "ann", "idempotency_key": "key-of-77"},
             {"text": "a question", "text_pair": PERSON, "label": "card"}])
    d.ask([{"text": PERSON}, {"text": "x", "text_pair": PERSON}])
    d.restart()  # an image now holds the embedding
    needles = [*spellings(PERSON), embedding_of(d, PERSON), b"key-of-77"]
    assert {f for f, _ in where(d.state, needles)} >= {"learnd.db"}
    assert any(f.endswith(".head") for f, _ in where(d.state, needles))
    d.ask([{"text": PERSON}, {"text": "x", "text_pair": PERSON}, {"text": "another"}])
    assert erase(d, text=PERSON) == {"examples": 2, "votes": 2, "requests": 2}
    assert where(d.state, needles) == []
    d.kill9()
    assert where(d.state, needles) == []
    d.start()
    assert erase(d, text=PERSON) == {"examples": 0, "votes": 0, "requests": 0}
    d.settle()
    other = make_daemon("other").start()
    other.teach(SCOPES)
    other.settle()
    same_scores(scores(d), scores(other))
    d.restart()
    assert where(d.state, needles) == []


@pytest.mark.sanitizer
def test_unlearning_is_exact_at_once(make_daemon):
    d, other = make_daemon("d").start(), make_daemon("other").start()
    d.teach(SCOPES + [(PERSON, "lost")])
    other.teach(SCOPES)
    erase(d, text=PERSON)
    d.settle()
    other.settle()
    same_scores(scores(d), scores(other))


def test_the_journal_keeps_what_it_was_without_the_text(make_daemon):
    d = make_daemon().start()
    example = d.teach([(PERSON, "lost")])["accepted"][0]["example"]
    erase(d, text=PERSON)
    versions = d.get("/v1/models/default/versions")["versions"]
    assert [v["op"] for v in versions] == ["delete", "label", "label_add", None]
    assert versions[0]["example"] == example
    d.problem("GET", f"/v1/examples/{example}")
    assert d.get("/v1/models/default")["examples"] == 0


@pytest.mark.sanitizer
def test_delete_erases_one_example_and_its_keys(make_daemon):
    d = make_daemon().start()
    d.teach(SCOPES)
    item = {"text": PERSON, "label": "lost", "idempotency_key": "row-1-of-people.csv"}
    first = d.teach([item])["accepted"][0]
    assert d.teach([item])["accepted"][0]["duplicate"]
    needles = [*spellings(PERSON), embedding_of(d, PERSON), b"row-1-of-people.csv"]
    d.delete(f"/v1/examples/{first['example']}")
    assert where(d.state, needles) == []
    d.delete(f"/v1/examples/{first['example']}")
    again = d.teach([item])["accepted"][0]  # the same row of the same file teaches it again
    assert not again["duplicate"] and again["seq"] > first["seq"]
    assert d.get(f"/v1/examples/{again['example']}")["text"] == PERSON


@pytest.mark.sanitizer
def test_an_annotator_is_gone_from_every_byte(make_daemon):
    d, other = make_daemon("d").start(), make_daemon("other").start()
    name = "annotator-Wilhelmina"
    kept = [{"text": t, "label": label, "annotator": "bob"} for t, label in SCOPES]
    for one in (d, other):
        one.teach(kept)
    d.teach([{"text": SCOPES[0][0], "label": "lost", "annotator": name, "source": name},
             {"text": PERSON, "label": "lost", "annotator": name, "idempotency_key": f"{name}/1"},
             {"text": SCOPES[1][0], "label": "card", "annotator": name},
             {"text": "never mind", "label": "card", "annotator": name}])
    withdrawn = d.get("/v1/models/default/examples?q=never%20mind")["examples"][0]["example"]
    d.post("/v1/feedback", {"example": withdrawn, "action": "withdraw", "annotator": name,
                            "wait": "applied"}, expect=202)
    needles = [*spellings(name), *spellings(PERSON), *spellings("never mind")]
    assert where(d.state, needles)
    assert erase(d, annotator=name) == {"examples": 2, "votes": 3, "requests": 0}
    assert where(d.state, needles) == []
    assert d.get(f"/v1/models/default/examples?annotator={name}")["examples"] == []
    for version in d.get("/v1/models/default/versions")["versions"]:
        assert version["annotator"] != name
    example = d.get("/v1/models/default/examples?q=where%20is")["examples"][0]
    assert (example["label"], example["annotators"]) == ("card", 1)
    for one in (d, other):
        one.settle()
    same_scores(scores(d), scores(other))
    d.restart().settle()
    same_scores(scores(d), scores(other))


def test_only_in_one_model(make_daemon):
    d = make_daemon().start()
    d.post("/v1/models", {"name": "second"}, expect=201)
    for model in ("default", "second"):
        d.teach([(PERSON, "lost")], model=model)
    assert erase(d, text=PERSON, model="second")["examples"] == 1
    assert d.get("/v1/models/second")["examples"] == 0
    assert d.get("/v1/models/default")["examples"] == 1
    d.teach([(PERSON, "lost")], model="second")
    assert erase(d, text=PERSON)["examples"] == 2  # both heads are without it when this is answered
    assert where(d.state, spellings(PERSON)) == []


def test_a_pair_leaves_its_text_alone(make_daemon):
    d = make_daemon().start()
    d.teach([{"text": "a", "text_pair": "the pair to erase", "label": "x"},
             {"text": "a", "text_pair": "the pair to keep", "label": "x"},
             {"text": "a", "label": "x"}])
    assert erase(d, text="a", text_pair="the pair to erase")["examples"] == 1
    assert where(d.state, [b"the pair to erase"]) == []
    assert d.get("/v1/models/default")["examples"] == 2
    assert erase(d, text="a")["examples"] == 2


def test_a_remembered_request_cannot_bring_it_back(make_daemon):
    d = make_daemon().start()
    d.teach(SCOPES)
    asked = d.ask(PERSON)["results"][0]["request_id"]
    assert erase(d, text=PERSON) == {"examples": 0, "votes": 0, "requests": 1}
    assert d.problem("POST", "/v1/feedback", {"request_id": asked, "label": "lost"}) == \
        (404, "unknown_request", "request_id")


def test_copies_that_moved_between_pages_are_found(make_daemon):
    """SQLite leaves old copies in pages whose rows moved to a neighbour: deleting and growing in
    all sizes makes such copies, and each text must be nowhere once it is erased."""
    d = make_daemon().start()
    texts = [f"{i:03d} " + f"person {i * 7919 % 1000:03d} of many " * (1 + i * 31 % 40)
             for i in range(160)]
    taught = d.teach([{"text": t, "label": "xy"[i % 2], "idempotency_key": f"{i * 613 % 160}-key"}
                      for i, t in enumerate(texts)])["accepted"]
    for i in range(0, 160, 3):
        d.delete(f"/v1/examples/{taught[i]['example']}")
    for i in range(1, 160, 6):
        erase(d, text=texts[i])
        assert where(d.state, [texts[i].encode()[:40]]) == []
    for i in range(0, 160, 3):
        assert where(d.state, [texts[i].encode()[:40]]) == []


def test_under_readers_and_feedback(make_daemon):
    """Others read and teach all the while; none of it is lost, none of it is in the way."""
    d = make_daemon().start()
    d.teach(SCOPES)
    stop, errors, taught = threading.Event(), [], []

    def work(what):
        session = type(d.session)()
        try:
            while not stop.is_set():
                what(session)
        except Exception as error:  # noqa: BLE001: shown by the test
            errors.append(error)

    def read(session):
        session.get(d.url + "/v1/models/default/examples?limit=1000", timeout=60)

    def teach(session):
        text = f"taught meanwhile {len(taught)}"
        answer = session.post(d.url + "/v1/feedback", json={"text": text, "label": "card"},
                              timeout=60)
        assert answer.status_code == 202, answer.text
        taught.append(text)

    threads = [threading.Thread(target=work, args=(w,)) for w in (read, read, teach)]
    for thread in threads:
        thread.start()
    try:
        for i in range(8):
            text = f"{PERSON}, flat {i}"
            d.teach([(text, "lost")], wait="durable")
            assert erase(d, text=text)["examples"] == 1
            assert where(d.state, spellings(text)) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    d.kill9()
    assert where(d.state, spellings(PERSON)) == []
    d.start()
    assert d.get("/v1/models/default")["examples"] == len(SCOPES) + len(taught)


def test_a_reader_that_stays_makes_it_say_so(make_daemon):
    """One who holds the log from outside: the answer is that it is not done, and a repeat does it."""
    d = make_daemon().start()
    d.teach(SCOPES + [(PERSON, "lost")])
    reader = sqlite3.connect(d.state / "learnd.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM example").fetchone() == (len(SCOPES) + 1,)
    assert d.problem("POST", "/v1/erase", {"text": PERSON}) == (503, "erase_incomplete", None)
    assert d.get("/v1/models/default")["examples"] == len(SCOPES)
    d.teach([("corrections went on", "card")])
    reader.execute("COMMIT")
    reader.close()
    assert erase(d, text=PERSON)["examples"] == 0
    assert where(d.state, spellings(PERSON)) == []


def test_a_start_finishes_what_a_kill_left(make_daemon):
    d = make_daemon().start()
    d.teach(SCOPES + [(PERSON, "lost")])
    reader = sqlite3.connect(d.state / "learnd.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM example").fetchone()
    assert d.problem("POST", "/v1/erase", {"text": PERSON})[1] == "erase_incomplete"
    d.kill9()
    reader.close()
    d.start()
    assert where(d.state, spellings(PERSON)) == []


def test_it_is_audited_without_the_text(make_daemon):
    d = make_daemon().start()
    example = d.teach([(PERSON, "lost"), ("other", "card")])["accepted"][1]["example"]
    erase(d, text=PERSON)
    erase(d, annotator="nobody")
    d.delete(f"/v1/examples/{example}")
    d.stop()
    db = sqlite3.connect(d.state / "learnd.db")
    rows = db.execute("SELECT action, length(object), examples, votes FROM audit ORDER BY number")
    assert rows.fetchall() == [("erase_text", 32, 1, 1), ("erase_annotator", 32, 0, 0),
                               ("delete_example", 16, 1, 1)]
    db.close()


@pytest.mark.parametrize("body, refusal", [
    ({}, (422, "missing_field", "text")),
    ({"model": "default"}, (422, "missing_field", "text")),
    ({"text": ""}, (422, "empty_text", "text")),
    ({"text": 3}, (422, "wrong_type", "text")),
    ({"text": "a", "annotator": "b"}, (422, "conflicting_fields", "annotator")),
    ({"text_pair": "a"}, (422, "conflicting_fields", "text_pair")),
    ({"annotator": "b", "text_pair": "a"}, (422, "conflicting_fields", "text_pair")),
    ({"annotator": ""}, (422, "invalid_name", "annotator")),
    ({"annotator": "x" * 129}, (422, "invalid_name", "annotator")),
    ({"annotator": None}, (422, "wrong_type", "annotator")),
    ({"text": "a", "model": "nobody"}, (404, "unknown_model", "model")),
    ({"text": "a", "model": 1}, (422, "wrong_type", "model")),
    ({"text": "a", "all": True}, (422, "unknown_field", "all")),
    ([], (422, "wrong_type", None)),
    (b"{", (400, "malformed_json", None)),
])
def test_bad_input_erases_nothing(shared, model, body, refusal):
    shared.teach([("a", "x")], model=model)
    assert shared.problem("POST", "/v1/erase", body) == refusal
    assert shared.get(f"/v1/models/{model}")["examples"] == 1
