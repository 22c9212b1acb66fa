"""learnctl watch: a screen on a terminal, lines elsewhere; it outlives the daemon."""
import json
import os
import re
import signal
import subprocess

import pytest

from terminal import Terminal
from test_ctl import FAILED, OK, REFUSED, USAGE, Stub, binary, run


def lines(daemon, *args, code=OK):
    return run("watch", "--url", daemon.url, *args, code=code)[0].splitlines()


def wait_for_stream(daemon, terminal):
    """Until it listens: what happened before is not told."""
    while not re.search(r"^learnd_event_streams 1$", daemon.call("GET", "/metrics").text, re.M):
        assert terminal.process.poll() is None
        terminal.read(0.05)


@pytest.mark.sanitizer
def test_screen(daemon):
    """Figures, versions, the latest events; q gives the terminal back."""
    daemon.teach([("where is my card", "card"), ("I lost my pin", "pin")])
    with Terminal(["watch", "--every", "0.1"], {"LEARNCTL_URL": daemon.url}) as t:
        t.wait(r"questions/s")
        assert daemon.url in t.text and "learnd" in t.frame[0]
        t.wait(r"default +0\.\d+ +2 +2")
        wait_for_stream(daemon, t)
        daemon.teach([("a new text", "turn\u202eed")])
        t.wait(r"label +default action=created label=turn\ufffded")
        t.wait(r"default +0\.\d+ +3 +3")
        for _ in range(3):
            daemon.ask(["a question"] * 50)
        t.wait(r"corrections/s.*\n +(?!0\.0)\d+\.\d ")  # a rate that is not nought
        t.wait(r"answer +\d+\.\d+ +\d+\.\d+")
        t.keys("q")
        assert t.end() == OK and t.err == ""
        assert t.after().strip() == ""


def test_ctrl_c_and_signals(shared):
    for end in ("\x03", signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with Terminal(["watch"], {"LEARNCTL_URL": shared.url}) as t:
            t.wait("events")
            if isinstance(end, str):
                t.keys(end)
            else:
                t.process.send_signal(end)
            assert t.end() == OK


def test_sizes(shared):
    """No line is longer, and no frame higher, than the terminal, however small."""
    with Terminal(["watch", "--every", "0.1"], {"LEARNCTL_URL": shared.url}, 24, 80) as t:
        t.wait("events")
        for rows, columns in ((10, 40), (3, 20), (1, 1), (50, 200)):
            t.resize(rows, columns)
            t.shown = b""
            while not t.shown.count(b"\x1b[J") >= 3:
                t.read(1)
            assert len(t.frame) <= rows and all(len(line) <= columns for line in t.frame)
        t.wait("events")
        t.keys("q")
        assert t.end() == OK


def test_the_daemon_restarts(daemon, unused_port):
    """The screen says that it is away, and goes on when it is back."""
    with Terminal(["watch", "--every", "0.1"], {"LEARNCTL_URL": daemon.url}) as t:
        t.wait(r"settled")
        daemon.ask("a question")
        daemon.stop()
        t.wait("AWAY: ")
        daemon.start()
        while "AWAY" in t.wait(r"default +0\.\d+"):
            t.read(0.1)
        wait_for_stream(daemon, t)
        daemon.teach([("once more", "again")])
        t.wait(r"label=again")
        t.keys("q")
        assert t.end() == OK


@pytest.fixture
def unused_port(daemon):
    """The daemon of this test comes back on the port it has."""
    daemon.args += ["--listen", f"127.0.0.1:{daemon.port}"]
    return daemon.port


def test_lines(daemon):
    """A line of figures a moment and one an event, in words and as JSON."""
    daemon.teach([("where is my card", "card")])
    got = lines(daemon, "--every", 0.05, "--limit", 3)
    assert len(got) == 3
    figures = [line for line in got if " figures " in line]
    assert figures and all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d figures +questions_per_s=", f)
                           for f in figures)
    assert "default@0." in figures[-1]
    process = subprocess.Popen(
        [binary(), "watch", "--url", daemon.url, "--json", "--every", "0.05"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen = json.loads(process.stdout.readline())
    assert set(seen["figures"]) == {
        "questions_per_s", "corrections_per_s", "refusals_per_s", "p50_ms", "p99_ms", "queued",
        "connections", "resident_bytes", "versions"}
    daemon.teach([("something else", "other")])
    while True:
        seen = json.loads(process.stdout.readline())
        if seen.get("event") == "label" and seen["data"]["label"] == "other":
            break
    asked = 0
    while True:  # the rates are of the daemon's counters
        asked += len(daemon.ask(["a question"] * 20)["results"])
        seen = json.loads(process.stdout.readline())
        if "figures" in seen and (seen["figures"]["questions_per_s"] or 0) > 0:
            break
    assert 0 < seen["figures"]["p50_ms"] <= seen["figures"]["p99_ms"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == OK and err == ""
    [json.loads(line) for line in out.splitlines()]


def test_types_and_model(shared, model):
    """--types keeps other events out."""
    process = subprocess.Popen(
        [binary(), "watch", "--url", shared.url, "--model", model, "--types", "model", "--json"],
        stdout=subprocess.PIPE, text=True)
    json.loads(process.stdout.readline())
    shared.teach([("x y", "z")], model=model)
    shared.patch(f"/v1/models/{model}", {"settings": {"score_min": 0.5}})
    events = []
    while not events:
        seen = json.loads(process.stdout.readline())
        events += ["event" in seen and seen["event"]] if "event" in seen else []
    process.terminate()
    process.communicate(timeout=60)
    assert events == ["model"]


def test_no_figures_is_no_end(tmp_path):
    """A daemon that hides /metrics from this key: the events are shown all the same."""
    def answer(handler, body):
        if handler.path == "/v1/info":
            return handler.send(200, b'{"version":"9"}')
        if handler.path.startswith("/v1/events"):
            return handler.send(200, b'retry: 1\nid: a-1\nevent: label\ndata: {"model":"m"}\n\n',
                                "text/event-stream")
        return handler.send(403, b'{"code":"forbidden"}')

    with Stub(answer) as stub:
        out, _ = run("watch", "--url", stub.url, "--limit", 2, "--quiet")
    assert [line.split()[1:] for line in out.splitlines()] == [["label", "m"]] * 2


def test_bad_input(shared):
    for args, word in ((["--every", 0], "--every"), (["--every", "x"], "number"),
                       (["m"], "too much"), (["--every", 1e5], "--every")):
        _, err = run("watch", "--url", shared.url, *args, code=USAGE)
        assert word in err, (args, err)
    _, err = run("watch", "--url", shared.url, "--types", "nonsense", code=REFUSED)
    assert "types" in err
    _, err = run("watch", "--url", "http://127.0.0.1:1", code=FAILED)
    assert "cannot reach" in err
    env = {**os.environ, "TERM": "dumb", "LEARNCTL_URL": shared.url}
    with Terminal(["watch", "--limit", "1"], env) as t:  # no screen on a dumb terminal
        assert t.end() == OK
        assert b"\x1b" not in t.shown and b"figures" in t.shown
