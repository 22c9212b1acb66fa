"""learnctl annotate: every decision arrives once, and can be taken back; by lines and at a terminal."""
import json
import re

import pytest
import requests

from terminal import Terminal
from test_ctl import FAILED, OK, PARTLY, REFUSED, USAGE, Stub, run

WIDE = "\u4f60\u597d\u4e16\u754c"


def examples(daemon, model):
    rows = daemon.get(f"/v1/models/{model}/examples?limit=1000")["examples"]
    return {r["text"]: r for r in rows}


@pytest.fixture
def queue(shared, model):
    """A model with two labels and four texts to label; (daemon, model, {text: request_id})."""
    shared.teach([("where is my card", "card"), ("my pin is wrong", "pin"),
                  ("the card came", "card"), ("forgot the pin", "pin")], model=model)
    texts = ["card please", f"pin {WIDE}", "something else", "and \x1b[2Jmore\u202e"]
    answers = shared.ask(texts, model=model)["results"]
    return shared, model, {t: a["request_id"] for t, a in zip(texts, answers)}


def annotate(daemon, model, *args, lines="", code=OK, url=None):
    """(what it printed, its errors): objects, with --json."""
    out, err = run("annotate", model, "--url", url or daemon.url, *args, stdin=lines, code=code)
    if "--json" in args:
        return [json.loads(line) for line in out.splitlines()], err
    return out, err


@pytest.mark.sanitizer
def test_lines(queue):
    """A line is a decision on the item before it; each is what the daemon has then."""
    daemon, model, requests_of = queue
    got, err = annotate(daemon, model, "--json", "--annotator", "ann", lines="1\n=pin\n+brand new\ns\n")
    items = [g["item"] for g in got if "item" in g]
    assert len(items) == 4 and {i["text"] for i in items} == set(requests_of)
    assert all(i["request_id"] == requests_of[i["text"]] for i in items)
    first = next(g for g in got if "choices" in g)
    assert first["choices"][0]["label"] == items[0]["label"]
    decisions = [g for g in got if "decision" in g]
    assert [d["decision"] for d in decisions] == ["label", "label", "label", "skip"]
    kept = examples(daemon, model)
    wanted = [first["choices"][0]["label"], "pin", "brand new"]
    assert [kept[i["text"]]["label"] for i in items[:3]] == wanted
    assert [kept[i["text"]]["example"] for i in items[:3]] == [d["example"] for d in decisions[:3]]
    assert items[3]["text"] not in kept
    summary = got[-1]["summary"]
    assert (summary["labelled"], summary["skipped"], summary["new_labels"]) == (3, 1, 1)
    assert summary["refused"] == 0 and err == ""
    # what is taught is not asked again; what was skipped is
    got, _ = annotate(daemon, model, "--json")
    assert [g["item"]["text"] for g in got if "item" in g] == [items[3]["text"]]


def test_words(queue):
    """For people: no word of a text moves the terminal; a summary."""
    daemon, model, _ = queue
    out, err = annotate(daemon, model, lines="s\ns\ns\nr\n")
    assert "\x1b" not in out and "\u202e" not in out and WIDE in out
    assert "0 labelled, 1 rejected, 3 skipped" in out and err == ""
    assert [r["status"] for r in examples(daemon, model).values()].count("rejected") == 1
    out, _ = annotate(daemon, model, "--quiet", lines="s\n")
    assert "skipped" not in out


def test_undo_is_exact(queue):
    """As if never seen: the versions of its labels go, and the answers are those of before."""
    daemon, model, _ = queue
    daemon.settle(model)
    before = {t: r["label"] for t, r in examples(daemon, model).items()}
    asked = daemon.ask(["card please", "my pin"], model=model, top_k=2)["results"]
    out, err = annotate(daemon, model, "--wait", "applied", lines="=card\nr\nu\nu\nu\n", code=PARTLY)
    assert "nothing to undo" in err and "2 undone" in out and "0 labelled" in out
    assert {t: r["label"] for t, r in examples(daemon, model).items()} == before
    daemon.settle(model)
    again = daemon.ask(["card please", "my pin"], model=model, top_k=2)["results"]
    for a, b in zip(asked, again):
        assert a["label"] == b["label"] and abs(a["score"] - b["score"]) < 1e-6


def test_undo_leaves_the_votes_of_others(queue):
    daemon, model, requests_of = queue
    (item,) = [g["item"] for g in annotate(daemon, model, "--json", "--limit", 1)[0] if "item" in g]
    stub = Stub(lambda h, body: forward(daemon, h, body, after=vote))
    voted = []

    def vote(path, answer):
        if path == "/v1/feedback" and not voted:
            voted.append(1)
            daemon.teach([{"text": item["text"], "label": "card", "annotator": "bob"}], model=model)

    with stub:
        annotate(daemon, model, "--limit", 1, "--annotator", "ann", lines="=pin\nu\n", url=stub.url)
    row = examples(daemon, model)[item["text"]]
    assert row["annotators"] == 1 and row["label"] == "card"


def forward(daemon, handler, body, after=None, lose=None):
    """Passes a request on; `after` looks at it; what `lose` is true for is done and not answered."""
    headers = {k: v for k, v in handler.headers.items() if k in ("Content-Type", "Authorization")}
    answer = requests.request(handler.command, daemon.url + handler.path, data=body, headers=headers,
                              timeout=60)
    if after:
        after(handler.path, answer)
    if lose and lose(handler.path):
        return handler.hang_up()
    if answer.status_code == 204:
        handler.send_response(204)
        return handler.end_headers()
    return handler.send(answer.status_code, answer.content, answer.headers["Content-Type"])


def test_a_lost_answer_loses_and_doubles_nothing(queue):
    """The daemon did it, the connection broke before the answer: it is sent again, and done once."""
    daemon, model, _ = queue
    lost = {"/v1/feedback": 2, "/v1/classify": 1}

    def lose(path):
        lost[path] = lost.get(path, 0) - 1
        return lost[path] >= 0

    before = daemon.get("/v1/info")["seq"]
    with Stub(lambda h, body: forward(daemon, h, body, lose=lose)) as stub:
        got, err = annotate(daemon, model, "--json", "--annotator", "ann", lines="=card\n=pin\n",
                            url=stub.url)
    assert got[-1]["summary"]["labelled"] == 2 and "trying again" in err
    assert daemon.get("/v1/info")["seq"] == before + 2  # each vote once
    keys = [json.loads(r[3])["idempotency_key"] for r in stub.requests if r[1] == "/v1/feedback"]
    assert len(keys) == 4 and len(set(keys)) == 2


def test_gives_up_in_time(queue):
    """A daemon that stays away: exit 3, and what was acknowledged is told apart from what was not."""
    daemon, model, _ = queue
    taken = []

    def lose(path):
        taken.append(path)
        return path == "/v1/feedback" and taken.count(path) > 1

    with Stub(lambda h, body: forward(daemon, h, body, lose=lose)) as stub:
        got, err = annotate(daemon, model, "--json", "--timeout", 0.5, lines="=card\n=pin\n=pin\n",
                            url=stub.url, code=FAILED)
    assert got[-1]["summary"]["labelled"] == 1
    errors = [json.loads(line) for line in err.splitlines()]
    assert "gave up" in errors[-1]["error"]["detail"]


def test_the_daemon_restarts(make_daemon):
    """It knows its requests no more: the decision goes by the text."""
    daemon = make_daemon().start()
    daemon.args += ["--listen", f"127.0.0.1:{daemon.port}"]
    daemon.teach([("where is my card", "card"), ("my pin is wrong", "pin")])
    daemon.ask(["one text", "another text"])
    restarted = []

    def after(path, answer):
        if path.startswith("/v1/classify") and not restarted:
            restarted.append(1)
            daemon.restart()

    with Stub(lambda h, body: forward(daemon, h, body, after=after)) as stub:
        annotate(daemon, "default", lines="=pin\n=card\n", url=stub.url)
    kept = examples(daemon, "default")
    assert {kept["one text"]["label"], kept["another text"]["label"]} == {"pin", "card"}


def test_sets(shared, model):
    """Kind multi: several numbers, and none."""
    name = model + "-multi"
    shared.post("/v1/models", {"name": name, "kind": "multi"}, expect=201)
    shared.teach([{"text": "a and b", "labels": ["a", "b"]}, {"text": "only b", "labels": ["b"]},
                  {"text": "nothing", "labels": []}], model=name)
    shared.ask(["first", "second", "third"], model=name)
    got, err = annotate(shared, name, "--json", lines="1 2\n0\n1 9\n2\n", code=PARTLY)
    items = [g["item"]["text"] for g in got if "item" in g]
    names = [sorted(c["label"] for c in g["choices"]) for g in got if "choices" in g]
    assert names == [["a", "b"]] * 3 and "no decision" in err
    kept = examples(shared, name)
    sets = [sorted(x["label"] for x in kept[t]["labels"]) for t in items]
    assert sets[:2] == [["a", "b"], []] and len(sets[2]) == 1


def test_review(shared, model):
    """The second look: what was taught comes first; undo brings the annotator's own vote back."""
    shared.teach([{"text": "disputed", "label": "a", "annotator": "ann"},
                  {"text": "disputed", "label": "b", "annotator": "bob"},
                  {"text": "other", "label": "b", "annotator": "ann"}], model=model)
    got, _ = annotate(shared, model, "--review", "--annotator", "cyd", "--json", lines="=a\n")
    assert got[0]["item"]["why"] == "contradicting" and got[0]["item"]["text"] == "disputed"
    assert {c["label"] for c in got[0]["choices"][:2]} == {"a", "b"}
    row = examples(shared, model)["disputed"]
    assert row["annotators"] == 3 and row["label"] == "a"
    shared.teach([{"text": "second", "label": "a", "annotator": "ann"},
                  {"text": "second", "label": "b", "annotator": "bob"}], model=model)
    shares = {x["label"]: x["share"] for x in examples(shared, model)["second"]["labels"]}
    annotate(shared, model, "--review", "--annotator", "ann", "--limit", 1, "--kind",
             "contradicting", lines="=b\nu\n")
    assert {x["label"]: x["share"] for x in examples(shared, model)["second"]["labels"]} == shares
    annotate(shared, model, "--review", "--annotator", "dan", "--limit", 1, lines="=b\nu\n")
    assert examples(shared, model)["second"]["annotators"] == 2


# ---- at a terminal


@pytest.fixture
def at_terminal(queue):
    daemon, model, requests_of = queue
    with Terminal(["annotate", model, "--annotator", "ann"], {"LEARNCTL_URL": daemon.url}) as t:
        t.wait(r"1 of 4")
        yield t, daemon, model, requests_of


def item_of(terminal, texts):
    """The text that is shown."""
    shown = [t for t in texts if re.sub(r"[\x1b\u202e]", "\ufffd", t) in terminal.text]
    assert len(shown) >= 1, terminal.text
    return shown[0]


@pytest.mark.sanitizer
def test_keys(at_terminal):
    """A digit, type-ahead, a new label, reject, skip, undo; then nothing is left."""
    t, daemon, model, texts = at_terminal
    first = item_of(t, texts)
    label = re.search(r"^ 1 +[0-9.]+ #* *(\S+)$", t.text, re.M).group(1)
    t.keys("1")
    t.wait(r"2 of 4 +1 labelled")
    assert examples(daemon, model)[first]["label"] == label
    second = item_of(t, set(texts) - {first})
    t.keys("/IN")
    t.wait(r"label: IN_\n > pin")
    t.keys("\x7f\x7f")
    t.wait(r"label: _\n > \w+\n   \w+")
    t.keys("pi\r")
    t.wait(r"3 of 4 +2 labelled")
    assert examples(daemon, model)[second]["label"] == "pin"
    third = item_of(t, set(texts) - {first, second})
    t.keys(f"+{WIDE} x")
    t.wait(f"new label: {WIDE} x_")
    t.keys("\x7f\x7fy\r")
    t.wait(rf"4 of 4 +3 labelled(.|\n)*{WIDE}y, a new label")
    assert examples(daemon, model)[third]["label"] == f"{WIDE}y"
    t.keys("u")
    t.wait(r"3 of 4 +2 labelled(.|\n)*undone")
    assert third not in examples(daemon, model)
    t.keys("s")
    t.wait(r"4 of 4 +2 labelled, 0 rejected, 1 skipped")
    t.keys("r")
    t.wait("Nothing is left")
    t.keys("u")  # also the last one
    t.wait("4 of 4 +2 labelled, 0 rejected, 1 skipped")
    t.keys("r")
    t.wait("Nothing is left")
    t.keys("\r")
    assert t.end() == OK
    assert "2 labelled, 1 rejected, 1 skipped, 2 undone" in t.after()


def test_help_escape_and_unknown_keys(at_terminal):
    t, daemon, model, texts = at_terminal
    t.keys("?")
    t.wait("any key goes back")
    t.keys("x")
    t.wait("1 of 4 +0 labelled")
    t.keys("/zzz")
    t.wait("no such label")
    t.keys("\r")  # takes nothing
    t.keys("\x1b")
    t.wait(r"\? help")
    t.keys("9x\x1b[15~\u00e9\t")  # no choice 9, no such keys
    t.keys("/card")
    t.wait("label: card_")
    t.keys("\x1b")
    t.keys("u")
    t.wait("nothing to undo")
    before = len(examples(daemon, model))
    t.keys("\x03")
    assert t.end() == OK and len(examples(daemon, model)) == before


def test_long_and_wide_texts(shared, model):
    """They are wrapped at the terminal's width, and scrolled."""
    shared.teach([("a", "x"), ("b", "y")], model=model)
    long = " ".join(f"word{i}" for i in range(900)) + " " + "\u4e2d" * 300 + " end"
    shared.ask(long, model=model)
    with Terminal(["annotate", model], {"LEARNCTL_URL": shared.url}, 24, 60) as t:
        t.wait("lines 1 to")
        assert all(len(line) <= 60 for line in t.frame) and "word0 word1" in t.text
        assert " 1 " in t.text and "? help" in t.text and len(t.frame) <= 24
        t.keys("\x1b[B")
        t.wait("lines 2 to")
        for _ in range(30):
            t.keys("\x1b[6~")
        t.wait("end\n")
        wide = [line for line in t.frame if "\u4e2d" in line]
        assert wide and all(len(line.strip()) * 2 <= 58 for line in wide)
        t.keys("\x1b[A\x1b[5~")
        t.resize(12, 30)
        while not all(len(line) <= 30 for line in t.frame):
            t.read(0.1)
        t.keys("q")
        assert t.end() == OK


def test_the_terminal_waits_for_the_daemon(make_daemon):
    """Away: it says so and tries on; the decision arrives when the daemon is back. q gives up."""
    daemon = make_daemon().start()
    daemon.args += ["--listen", f"127.0.0.1:{daemon.port}"]
    daemon.teach([("where is my card", "card"), ("my pin is wrong", "pin")])
    daemon.ask(["one text", "another text"])
    with Terminal(["annotate"], {"LEARNCTL_URL": daemon.url}) as t:
        t.wait("1 of 2")
        daemon.stop()
        t.keys("1")
        t.wait("AWAY")
        daemon.start()
        t.wait("2 of 2 +1 labelled")
        assert len(examples(daemon, "default")) == 3
        daemon.stop()
        t.keys("1")
        t.wait("AWAY")
        t.keys("q")
        assert t.end() == FAILED and "1 labelled" in t.after() and "gave up" in t.err
    daemon.start()
    assert len(examples(daemon, "default")) == 3


def test_sets_at_a_terminal(shared, model):
    name = model + "-sets"
    shared.post("/v1/models", {"name": name, "kind": "multi"}, expect=201)
    shared.teach([{"text": "a and b", "labels": ["a", "b"]}], model=name)
    shared.ask(["first", "second"], model=name)
    with Terminal(["annotate", name], {"LEARNCTL_URL": shared.url}) as t:
        t.wait("1 of 2")
        t.keys("\r")
        t.wait("choose labels")
        t.keys("121")
        t.wait(r"2 \[x\]")
        t.keys("\r")
        t.wait("2 of 2 +1 labelled")
        t.keys("0")
        t.wait("Nothing is left")
        t.keys("q")
        assert t.end() == OK
    kept = examples(shared, name)
    assert sorted(len(kept[x]["labels"]) for x in ("first", "second")) == [0, 1]


def test_bad_input(shared, model):
    _, err = run("annotate", "a", "b", "--url", shared.url, code=USAGE)
    assert "one model" in err
    _, err = run("annotate", "--review", "--url", shared.url, code=USAGE)
    assert "--annotator" in err
    _, err = run("annotate", "--kind", "duplicate", "--url", shared.url, code=USAGE)
    assert "--review" in err
    _, err = annotate(shared, "nope", "--json", code=REFUSED)
    assert json.loads(err)["error"]["code"] == "unknown_model"
    _, err = run("annotate", "--url", "http://127.0.0.1:1", code=FAILED)
    assert "cannot reach" in err
    shared.post("/v1/models", {"name": model + "-v", "encoder": "none", "dim": 4}, expect=201)
    _, err = annotate(shared, model + "-v", code=REFUSED)
    assert "vectors" in err
    assert "0 labelled" in annotate(shared, model)[0]  # an empty queue is no error
    shared.ask("a text", model=model)
    for line in ("x", "0", "99", "=", "+", "=no such label", "+" + "x" * 200, "1 2"):
        out, err = annotate(shared, model, lines=line + "\n", code=REFUSED)
        assert err and "0 labelled" in out, line
    _, err = annotate(shared, model, "--seed", "x", code=REFUSED)
    assert "seed" in err
