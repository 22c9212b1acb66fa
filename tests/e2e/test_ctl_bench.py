"""learnctl bench: it counts what it sends, it sees a wrong answer, and a stall cannot hide."""
import json
import re
import signal
import subprocess
import threading
import time

import pytest

from test_ctl import FAILED, OK, PARTLY, REFUSED, USAGE, Stub, binary, run

MODEL = {"name": "default", "version": "0.3", "settled": True}


def bench(url, *args, code=OK):
    out, _ = run("bench", "--url", url, "--json", *args, code=code)
    return json.loads(out)


def answer(score=0.5, version="0.3", **fields):
    one = {"request_id": "r", "label": "a", "score": score, "abstain": False, **fields}
    return json.dumps({"model": "default", "version": version, "results": [one]}).encode()


def stub(reply):
    """A daemon of one model; reply(handler, text, number) answers the questions."""
    lock, numbers = threading.Lock(), iter(range(10**9))

    def handle(handler, body):
        if handler.command == "GET":
            return handler.send(200, json.dumps(MODEL).encode())
        with lock:
            number = next(numbers)
        return reply(handler, json.loads(body)["inputs"], number)

    return Stub(handle)


@pytest.mark.sanitizer
def test_a_daemon_under_load(shared, model, tmp_path):
    """Closed, by number: as many answers as were asked, none kept, each line of the dump one."""
    shared.teach([(f"card number {i}", "ab"[i % 2]) for i in range(8)], model=model)
    shared.settle(model)
    texts = [f"line {i}" for i in range(7)]
    (tmp_path / "t.txt").write_text("\n".join(texts) + "\n\n")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": t, "label": 1}) + "\n" for t in texts))
    before = shared.get("/v1/info")["seq"]
    told = bench(shared.url, "--model", model, "--requests", 50, "--connections", 3,
                 "-f", tmp_path / "t.txt", "--dump", tmp_path / "dump")
    assert told["mode"] == "closed" and told["rate"] is None
    assert (told["answers"], told["connections"], told["texts"]) == (50, 3, 7)
    assert told["refused"] == told["invalid"] == told["differ"] == told["unfinished"] == 0
    ms = told["latency_ms"]
    assert 0 < ms["p50"] <= ms["p90"] <= ms["p95"] <= ms["p99"] <= ms["p99_9"] <= ms["max"]
    rows = [line.split(",") for line in (tmp_path / "dump").read_text().splitlines()]
    assert len(rows) == 50 and {int(r[2]) for r in rows} == set(range(7))
    version = shared.get(f"/v1/models/{model}")["version"]
    assert {r[3] for r in rows} == {version}
    asked = shared.ask(texts, model=model)["results"]
    assert all(abs(float(r[4]) - asked[int(r[2])]["score"]) < 1e-6 for r in rows)
    assert shared.get("/v1/info")["seq"] == before
    told = bench(shared.url, "--model", model, "--requests", 20, "-f", tmp_path / "t.jsonl")
    assert told["answers"] == 20 and told["texts"] == 7
    out, _ = run("bench", "--url", shared.url, "--model", model, "--requests", 20, "--rate", 400)
    assert "open loop at 400/s" in out and "20 in " in out and "p99.9" in out
    # store: false: nothing to label next
    assert shared.get(f"/v1/models/{model}/next")["candidates"] == 7


def test_seconds_and_a_signal(shared):
    """It ends when its time is over, and with figures when it is told to end."""
    told = bench(shared.url, "--seconds", 0.3)
    assert told["answers"] > 0 and 0.2 < told["seconds"]
    process = subprocess.Popen(
        [binary(), "bench", "--url", shared.url, "--seconds", "600", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    before = texts_total(shared)
    while texts_total(shared) == before:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == OK and err == "" and json.loads(out)["mode"] == "closed"


def texts_total(daemon):
    text = daemon.call("GET", "/metrics").text
    return int(re.search(r"^learnd_texts_total (\d+)", text, re.M)[1])


def test_wrong_answers_are_seen():
    with stub(lambda h, t, n: h.send(200, answer(0.5 if n else 0.25))) as one:
        told = bench(one.url, "--requests", 40, "--connections", 2, code=FAILED)
        assert told["differ"] == 2 and told["answers"] == 40  # as one of 16 texts is asked thrice
        out, _ = run("bench", "--url", one.url, "--requests", 40)
        assert "WRONG" not in out
    with stub(lambda h, t, n: h.send(200, answer(0.5 if n else 0.25, "0.4"))) as one:
        told = bench(one.url, "--requests", 40, "--connections", 2)  # not the settled version
        assert told["differ"] == 0 and told["differ_unsettled"] == 2
    for body in (b"{}", b"no", answer(3), answer(label=None), answer("x")):
        with stub(lambda h, t, n, b=body: h.send(200, b)) as one:
            told = bench(one.url, "--requests", 5, code=FAILED)
            assert told["invalid"] == 5 and told["answers"] == 0


def test_refusals_are_counted_by_code():
    def reply(handler, text, number):
        if number % 4 == 0:
            return handler.send(503, b'{"code":"queue_full\\u001b[2J"}')
        if number % 4 == 1:
            return handler.send(429, b'{"code":"too_many_requests"}')
        return handler.send(200, answer())

    with stub(reply) as one:
        told = bench(one.url, "--requests", 40, "--connections", 4, code=PARTLY)
        assert told["refused"] == 20 and told["answers"] == 20
        assert sorted((e["status"], e["count"]) for e in told["errors"]) == [(429, 10), (503, 10)]
        out, _ = run("bench", "--url", one.url, "--requests", 40, code=PARTLY)
        assert "REFUSED" in out and "\x1b" not in out
    with stub(lambda h, t, n: h.send(403, b'{"code":"forbidden"}')) as one:
        assert bench(one.url, "--requests", 4, code=REFUSED)["refused"] == 4
    with stub(lambda h, t, n: h.send(500, b'{"code":"internal"}')) as one:
        assert bench(one.url, "--requests", 4, code=FAILED)["refused"] == 4


def test_broken_connections():
    """Each costs its question, and the load goes on over a new one."""
    def reply(handler, text, number):
        if number % 5 == 0:
            return handler.hang_up()
        return handler.send(200, answer(), Connection="close" if number % 5 == 1 else "keep-alive")

    with stub(reply) as one:
        told = bench(one.url, "--requests", 25, "--connections", 2, code=PARTLY)
        assert told["answers"] == 20
        assert told["errors"] == [{"status": 0, "code": "broken_off", "count": 5}]


def test_a_stall_cannot_hide():
    """One connection, a question due every 20 ms, one answer of half a second: a tool that waits for
    it before it sends the next would see one slow answer. Those that were due meanwhile waited."""
    def reply(handler, text, number):
        if number == 10:
            time.sleep(0.5)
        handler.send(200, answer())

    with stub(reply) as one:
        told = bench(one.url, "--rate", 50, "--requests", 60, "--connections", 1)
    assert told["answers"] == 60 and told["latency_ms"]["max"] > 480
    assert told["latency_ms"]["p90"] > 100  # of 60 answers, more than ten waited longer


def test_what_is_unfinished_counts():
    """A daemon that answers nothing more: what was due has waited, and is told."""
    gate = threading.Event()

    def reply(handler, text, number):
        if number >= 5:
            gate.wait(60)
        handler.send(200, answer())

    with stub(reply) as one:
        told = bench(one.url, "--rate", 100, "--seconds", 1, "--connections", 2, "--timeout", 0.9,
                     code=PARTLY)
        gate.set()
    assert told["answers"] == 5 and told["unfinished"] > 50
    assert {e["code"] for e in told["errors"]} == {"timeout"}
    assert told["latency_ms"]["p99"] > 500


def test_the_key_is_sent(tmp_path):
    (tmp_path / "key").write_text("secret\n")
    with stub(lambda h, t, n: h.send(200, answer())) as one:
        bench(one.url, "--requests", 3, "--key-file", tmp_path / "key")
        assert {r[2].get("Authorization") for r in one.requests} == {"Bearer secret"}


def test_bad_input(shared, tmp_path):
    for args, word in ((["--connections", 0], "--connections"), (["--connections", 5000], "4096"),
                       (["--rate", 0], "--rate"), (["--rate", "x"], "number"),
                       (["--seconds", 0], "--seconds"), (["--seconds", 1e6], "--seconds"),
                       (["--requests", 0], "--requests"), (["--requests", 1.5], "whole"),
                       (["text"], "too much"), (["--format", "csv"], "jsonl"),
                       (["-f", tmp_path / "none"], "none"), (["--dump", tmp_path], "directory")):
        _, err = run("bench", "--url", shared.url, *args, code=USAGE)
        assert word in err, (args, err)
    for name, content, word in (("a.jsonl", '{"text":"x"}\n{}\n', "a.jsonl:2"),
                                ("b.jsonl", "no\n", "no JSON"), ("c.txt", "\n\n", "no text"),
                                ("d.txt", b"\xff\n", "UTF-8")):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        _, err = run("bench", "--url", shared.url, "-f", tmp_path / name, code=USAGE)
        assert word in err, (name, err)
    _, err = run("bench", "--url", "http://10.255.255.1:9", code=USAGE)
    assert "--anywhere" in err
    _, err = run("bench", "--url", "https://127.0.0.1:9", code=USAGE)
    assert "plain HTTP" in err
    _, err = run("bench", "--url", "http://127.0.0.1:1", code=FAILED)
    assert "cannot reach" in err
    _, err = run("bench", "--url", shared.url, "--model", "nope", "--json", code=REFUSED)
    assert json.loads(err)["error"]["code"] == "unknown_model"
