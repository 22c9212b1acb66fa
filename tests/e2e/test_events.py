"""GET /v1/events: order, resuming, filters, readers that are slow or leave, stops and restarts."""
import http.client
import json
import random
import resource
import signal
import socket
import subprocess
import threading

import pytest

from event_stream import EventStream
from learnd_process import ROOT, environment, problem_of
from test_http import Wire, count, read_one, until

HELD = 4096     # LIMIT_EVENTS
STREAMS = 64    # LIMIT_EVENT_STREAMS


def new_labels(daemon, model, names, wait="durable"):
    """One request that creates these labels, with one text: there is little to learn."""
    daemon.teach([{"text": "t", "label": n} for n in names], model=model, wait=wait)


def labels_of(events):
    return [e.data["label"] for e in events]


def small_model(daemon, name):
    daemon.post("/v1/models", {"name": name, "settings": {"features": 64}}, expect=201)
    return name


# ---- what is told

@pytest.mark.sanitizer
def test_what_happens_is_told_in_order(shared):
    with EventStream(shared) as stream:
        assert stream.first is None and stream.retry_ms > 0 and stream.last_id
        shared.post("/v1/models", {"name": "told"}, expect=201)
        shared.post("/v1/models/told/labels", {"label": "early"}, expect=201)
        shared.teach([("one", "x"), ("two", "y"), ("three", "x")], model="told")
        seen = [next(stream)]
        while seen[-1].data.get("examples") != 3:
            seen.append(next(stream))
        shared.patch("/v1/models/told", {"settings": {"score_min": 0.5}})
        shared.delete("/v1/models/told")
        while seen[-1].data.get("action") != "removed":
            seen.append(next(stream))
    numbers = [int(e.id.split("-")[1]) for e in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(seen)))
    seen = [e for e in seen if e.data["model"] == "told"]  # others may have settled meanwhile
    actions = [e.data["action"] for e in seen if e.kind == "model"]
    assert actions == ["created", "changed", "removed"]
    labels = [e for e in seen if e.kind == "label"]
    assert labels_of(labels) == ["early", "x", "y"]
    assert {e.data["action"] for e in labels} == {"created"}
    swaps = [e.data for e in seen if e.kind == "swap"]
    seqs = [int(s["version"].split(".")[1]) for s in swaps]
    assert seqs == sorted(seqs) and swaps[0]["examples"] == 0
    assert swaps[-1]["examples"] == 3 and swaps[-1]["labels"] == 3


@pytest.mark.sanitizer
def test_a_label_comes_before_the_swap_that_knows_it(shared, model):
    with EventStream(shared, f"model={model}") as stream:
        shared.teach([("a", "x")], model=model)
        seen = [next(stream)]
        while seen[-1].data.get("examples") != 1:
            seen.append(next(stream))
    assert "label" in [e.kind for e in seen]


def test_swaps_are_merged_and_the_newest_is_told(daemon):
    """Every publish is one swap that is told, or one that a newer one replaced."""
    with EventStream(daemon, "types=swap") as stream:
        boot = stream.last_id.split("-")[0]
        for i in range(60):
            version = daemon.teach([(f"text {i}", "xy"[i % 2])])["version"]
        while next(stream).data["version"] != version:
            pass
    with EventStream(daemon, "types=swap", last_id=boot + "-0") as stream:
        told = [next(stream)]
        while told[-1].data["version"] != version or not told[-1].data["settled"]:
            told.append(next(stream))
    assert count(daemon, "learnd_events_merged_total") > 0
    merged = count(daemon, "learnd_events_merged_total")
    assert len(told) + merged == count(daemon, "learnd_swaps_total")


def test_failures_are_warned_of(make_daemon):
    """A disk that is full, as far as the daemon can tell; then it is not."""
    def ignore():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    daemon = make_daemon(preexec=ignore).start()
    daemon.teach([("a", "x")])
    unlimited = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    with EventStream(daemon, "types=warning&model=default") as stream:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1024, unlimited[1]))
        for i in range(5):
            answer = daemon.call("POST", "/v1/feedback", {"text": f"lost {i}", "label": "y"})
            assert answer.status_code in (503, 507), answer.text
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, unlimited)
        event = next(stream)
        assert event.kind == "warning" and event.data["code"] == "journal_write_failed"
        assert event.data["model"] is None
    daemon.teach([("b", "y")])


# ---- resuming

@pytest.mark.sanitizer
def test_resuming_loses_and_repeats_nothing(shared, model):
    """A client that is cut off at random places, and comes back with the last id it has seen."""
    chance = random.Random(7)
    names = [f"l{i}" for i in range(300)]
    with EventStream(shared, f"model={model}&types=label") as stream:
        last_id = stream.last_id  # of the mark: nothing has happened yet
    for i in range(0, len(names), 50):
        new_labels(shared, model, names[i:i + 50])
    got = []
    while len(got) < len(names):
        with EventStream(shared, f"model={model}&types=label", last_id) as stream:
            assert stream.first is None
            for event in stream.take(min(chance.randrange(4), len(names) - len(got))):
                got.append(event)
            last_id = stream.last_id
    assert labels_of(got) == names


def test_resuming_by_query(shared, model):
    query = f"types=label&model={model}"
    with EventStream(shared, query) as stream:
        new_labels(shared, model, ["a", "b", "c"])
        first, second, _ = stream.take(3)
    with EventStream(shared, f"{query}&last_event_id={second.id}") as stream:
        assert next(stream).data["label"] == "c"
    with EventStream(shared, f"{query}&last_event_id={first.id}", last_id=second.id) as stream:
        assert next(stream).data["label"] == "c"  # the header is the later word


@pytest.mark.sanitizer
def test_a_restart_is_told(daemon):
    new_labels(daemon, "default", ["a", "b"], wait="applied")
    with EventStream(daemon) as stream:
        last_id = stream.last_id
    daemon.restart()
    with EventStream(daemon, "types=label", last_id) as stream:
        assert stream.first.kind == "reset" and stream.first.data["reason"] == "restarted"
        assert stream.last_id.split("-")[0] != last_id.split("-")[0]
        new_labels(daemon, "default", ["c"])
        assert next(stream).data["label"] == "c"
        last_id = stream.last_id
    with EventStream(daemon, last_id=last_id) as stream:
        assert stream.first is None


@pytest.mark.parametrize("last_id", ["garbage", "0-0", "-1", "1", "{boot}-", "{boot}-99999999",
                                     "{boot}-01", "{boot}-1 ; x", "x" * 4000])
def test_an_id_that_never_was(shared, model, last_id):
    with EventStream(shared) as stream:
        boot = stream.last_id.split("-")[0]
    new_labels(shared, model, ["a"])
    with EventStream(shared, f"types=label&model={model}", last_id.format(boot=boot)) as stream:
        assert stream.first.kind == "reset" and stream.first.data["reason"] == "unknown_id"
        assert next(stream).data["label"] == "a"  # what is held follows


def test_a_thousand_at_once(shared):
    name = small_model(shared, "thousand")
    with EventStream(shared, f"types=label&model={name}") as stream:
        names = [f"l{i}" for i in range(1000)]
        new_labels(shared, name, names)
        assert labels_of(stream.take(1000)) == names


# ---- filters

@pytest.mark.sanitizer
def test_filters(shared, model):
    with EventStream(shared, "types=model") as models, \
            EventStream(shared, f"types=label,model&model={model}") as one:
        small_model(shared, f"other-{model}")
        new_labels(shared, f"other-{model}", ["no"])
        new_labels(shared, model, ["yes"])
        shared.delete(f"/v1/models/other-{model}")
        assert [e.data["action"] for e in models.take(2)] == ["created", "removed"]
        assert next(one).data["label"] == "yes"


@pytest.mark.parametrize("query, expected", [
    ("types=nothing", (422, "invalid_value", "types")),
    ("types=", (422, "invalid_value", "types")),
    ("types=swap,", (422, "invalid_value", "types")),
    ("types=reset", (422, "invalid_value", "types")),
    ("types=" + "swap," * 100 + "swap", (422, "invalid_value", "types")),
    ("types=%zz", (422, "invalid_value", "types")),
    ("model=nobody", (404, "unknown_model", "model")),
    ("model=" + "m" * 200, (422, "invalid_value", "model")),
    ("last_event_id=" + "1" * 100, (422, "invalid_value", "last_event_id")),
    ("last_event_id=%00", (422, "invalid_value", "last_event_id")),
])
def test_bad_queries(shared, query, expected):
    assert shared.problem("GET", "/v1/events?" + query) == expected
    assert shared.problem("POST", "/v1/events", {})[:2] == (405, "method_not_allowed")


# ---- HTTP

@pytest.mark.sanitizer
def test_head(shared):
    with Wire(shared) as w:
        w.send(b"HEAD /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, body = w.answer("HEAD")
        assert status == 200 and body == b"" and headers["Content-Type"] == "text/event-stream"
        assert w.ended()
    with Wire(shared) as w:
        w.send(b"HEAD /v1/events?types=no HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert w.answer("HEAD")[0] == 422


def test_http_1_0(shared, model):
    """No chunks: the events as they are, until the connection closes."""
    with Wire(shared) as w:
        w.send(b"GET /v1/events?types=label HTTP/1.0\r\n\r\n")
        with w.sock.makefile("rb") as lines:
            head = list(iter(lines.readline, b"\r\n"))
            assert head[0].startswith(b"HTTP/1.1 200 ")
            assert not any(h.lower().startswith(b"transfer-encoding") for h in head)
            new_labels(shared, model, ["x"])
            while not (line := lines.readline()).startswith(b"data: "):
                assert line
            assert json.loads(line[6:])["label"] == "x"


@pytest.mark.sanitizer
@pytest.mark.parametrize("together", [True, False])
def test_a_request_behind_a_stream_ends_it(shared, together):
    get = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    behind = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Wire(shared) as w:
        if together:
            w.send(get + behind)
        else:
            w.send(get)
            w.sock.recv(1, socket.MSG_PEEK)
            w.send(behind)
        status, headers, body = w.answer()  # whole: the last chunk is there
        assert status == 200 and headers["Connection"] == "close"
        assert body.startswith(b"retry: ") and body.endswith(b"\n\n")
        assert w.ended(), "the request behind it must not be answered"


def test_a_stream_behind_a_request(shared):
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Wire(shared) as w:
        w.send(live + live + b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with w.sock.makefile("rb") as stream:
            for _ in range(2):
                assert read_one(stream)["status"] == "live"
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.sanitizer
def test_too_many_streams(shared):
    streams = [EventStream(shared) for _ in range(STREAMS)]
    try:
        answer = shared.call("GET", "/v1/events")
        assert problem_of(answer)[:2] == (503, "too_many_streams")
        assert int(answer.headers["Retry-After"]) >= 1
        assert count(shared, "learnd_event_streams") == STREAMS
        shared.ask("others are served")
    finally:
        for stream in streams:
            stream.close()
    until(lambda: count(shared, "learnd_event_streams") == 0, "they have left")
    EventStream(shared).close()


# ---- slow readers, stops

def flood(daemon, n, each=1000, prefix="f"):
    """n * each label events, of as many models."""
    for i in range(n):
        name = small_model(daemon, f"{prefix}{i}")
        new_labels(daemon, name, [f"label number {j} of model {i}" for j in range(each)])


@pytest.fixture(scope="module")
def flooded(tmp_path_factory):
    """A daemon with a reader that does not read, one that does, and more events than are held."""
    from conftest import stop_all
    from learnd_process import Daemon
    folder = tmp_path_factory.mktemp("flooded")
    daemon = Daemon(folder / "state", folder / "log").start()
    with EventStream(daemon) as stream:
        daemon.first_id = stream.last_id
    daemon.slow = EventStream(daemon, receive_bytes=4096)
    daemon.read = []
    with EventStream(daemon, "types=label") as fast:
        reader = threading.Thread(target=lambda: daemon.read.extend(fast.take(10000)))
        reader.start()
        for i in range(10):
            flood(daemon, 1, prefix=f"m{i}-")
            daemon.ask("others are served")
        reader.join(120)
        assert not reader.is_alive(), len(daemon.read)
    yield daemon
    daemon.slow.close()
    stop_all([daemon])


def test_a_slow_reader_is_dropped(flooded):
    until(lambda: count(flooded, "learnd_event_streams_slow_total") == 1, "it is still there")
    assert count(flooded, "learnd_event_streams_stalled_total") == 0
    assert count(flooded, "learnd_event_streams") == 0
    flooded.wait_line(r"at=events event=reader_dropped reason=slow request_id=\w{26}")


def test_others_do_not_notice(flooded):
    """The reader that reads has all of them, each once, in order."""
    numbers = [int(e.id.split("-")[1]) for e in flooded.read]
    assert numbers == sorted(set(numbers))
    assert [e.kind for e in flooded.read] == ["label"] * 10000
    assert [e.data["label"] for e in flooded.read[:1000]] == \
        [f"label number {j} of model 0" for j in range(1000)]


def test_overtaken_while_away(flooded):
    with EventStream(flooded, last_id=flooded.first_id) as stream:
        assert stream.first.kind == "reset" and stream.first.data["reason"] == "overtaken"
        first = int(stream.last_id.split("-")[1])
        numbers = [int(e.id.split("-")[1]) for e in stream.take(HELD)]
        assert numbers == list(range(first + 1, first + 1 + HELD))


def test_resuming_from_far_back_is_not_slow(flooded):
    """More than one piece, at the client's own speed."""
    boot = flooded.first_id.split("-")[0]
    posted = int(count(flooded, "learnd_events_total"))
    n = HELD - 100  # and some may come before we do
    with EventStream(flooded, last_id=f"{boot}-{posted - n}", receive_bytes=4096) as stream:
        assert stream.first is None
        flooded.ask("others are served")
        assert len(stream.take(n)) == n
    assert count(flooded, "learnd_event_streams_slow_total") == 1


def test_time_passes(daemon):
    """A client without events is told where its stream stands, to resume from there; one that takes
    nothing for long is dropped although the bus still holds all that it has not read."""
    with EventStream(daemon, receive_bytes=4096) as stalled, \
            EventStream(daemon, "types=warning") as quiet:
        flood(daemon, 3)
        before = quiet.last_id
        assert quiet.block() is None
        assert quiet.last_id != before
        daemon.wait_line(r"at=events event=reader_dropped reason=stalled request_id=\w{26}")
        with pytest.raises((http.client.HTTPException, AssertionError, OSError)):
            stalled.take(4000)  # it breaks off, and not as a stream that has ended
    assert count(daemon, "learnd_event_streams_stalled_total") == 1
    assert count(daemon, "learnd_event_streams_slow_total") == 0
    with EventStream(daemon, "types=label", quiet.last_id) as stream:
        new_labels(daemon, "default", ["b"])
        assert next(stream).data["label"] == "b"


@pytest.mark.sanitizer
def test_a_stop_ends_streams(make_daemon):
    daemon = make_daemon().start()
    with EventStream(daemon) as all_, EventStream(daemon, "types=label") as labels:
        new_labels(daemon, "default", ["last"])
        daemon.stop()
        assert labels_of(labels) == ["last"]  # and then a proper end
        assert "label" in [e.kind for e in all_]


def test_a_stop_does_not_wait_for_a_reader(make_daemon):
    """Less than requests under way are given to finish."""
    daemon = make_daemon().start()
    with EventStream(daemon, receive_bytes=4096):
        flood(daemon, 3)
        daemon.stop(seconds=15)


@pytest.mark.sanitizer
def test_several_loops(make_daemon):
    daemon = make_daemon(args=["--loops", "3"]).start()
    streams = [EventStream(daemon, "types=label") for _ in range(12)]
    names = [f"l{i}" for i in range(200)]
    new_labels(daemon, "default", names)
    for stream in streams:
        assert labels_of(stream.take(200)) == names
        stream.close()
    until(lambda: count(daemon, "learnd_event_streams") == 0, "they have left")


@pytest.mark.sanitizer
def test_readers_that_come_and_go_while_much_happens(make_daemon):
    daemon = make_daemon(args=["--loops", "2"]).start()
    small_model(daemon, "m")
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            with EventStream(daemon, last_id="nothing", timeout=60) as stream:
                stream.take(3)
    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(20):
        new_labels(daemon, "m", [f"{i}-{j}" for j in range(10)], wait="applied")
    done.set()
    for thread in threads:
        thread.join()


# ---- learnctl

class Ctl:
    def __init__(self, daemon, *args):
        binary = ROOT / "build" / "learnctl"
        self.process = subprocess.Popen(
            [str(environment().get("LEARNCTL_BIN", binary)), "events", "--url", daemon.url,
             *map(str, args)], env={**environment(), "LEARNCTL_URL": ""},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def line(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.rstrip("\n")

    def end(self):
        """(exit code, the rest of stdout, stderr)"""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.end()


def listening(daemon, n=1):
    until(lambda: count(daemon, "learnd_event_streams") >= n, "learnctl does not come")


def test_ctl_prints_a_line_an_event(daemon):
    ctl = Ctl(daemon, "--types", "label,model")
    listening(daemon)
    new_labels(daemon, "default", ["card lost"])
    small_model(daemon, "m")
    first, second = ctl.line(), ctl.line()
    assert first.split()[2:] == ["label", "default", "action=created", "label=\"card", "lost\""]
    assert second.split()[2:] == ["model", "m", "action=created"]
    assert ctl.interrupt() == (0, "", "")


def test_ctl_json(daemon):
    ctl = Ctl(daemon, "--json", "--model", "default", "--types", "label", "--limit", "2")
    listening(daemon)
    small_model(daemon, "m")
    new_labels(daemon, "m", ["no"])
    new_labels(daemon, "default", ["a", "b", "c"])
    code, out, err = ctl.end()
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [e["data"]["label"] for e in events] == ["a", "b"]
    assert {e["event"] for e in events} == {"label"}
    code, out, _ = Ctl(daemon, "--json", "--since", events[0]["id"], "--limit", "1",
                       "--types", "label").end()
    assert code == 0 and json.loads(out) == events[1]


def test_ctl_comes_back(make_daemon):
    """The daemon goes and comes at the same address: the client resumes, and says so."""
    daemon = make_daemon().start()
    ctl = Ctl(daemon, "--types", "label")
    listening(daemon)
    new_labels(daemon, "default", ["before"])
    assert ctl.line().endswith("label=before")
    port = daemon.port
    daemon.stop()
    daemon.args = ["--listen", f"127.0.0.1:{port}"]
    daemon.start()
    reset = ctl.line()
    assert reset.split()[2] == "reset" and reset.endswith("reason=restarted")
    new_labels(daemon, "default", ["after"])
    assert ctl.line().endswith("label=after")
    code, out, err = ctl.interrupt()
    assert (code, out) == (0, "") and "again" in err


def test_ctl_is_interrupted_while_nobody_is_there(make_daemon):
    daemon = make_daemon().start()
    ctl = Ctl(daemon, "--types", "label")
    listening(daemon)
    new_labels(daemon, "default", ["last"])
    daemon.stop()
    assert ctl.line().endswith("label=last")
    assert "again" in ctl.process.stderr.readline()
    assert ctl.interrupt()[:2] == (0, "")


@pytest.mark.parametrize("args, code, words", [
    (["--types", "nothing"], 1, "invalid_value"),
    (["--model", "nobody"], 1, "unknown_model"),
    (["too", "much"], 2, "too much"),
    (["--since", "two\nlines"], 2, "no id"),
    (["--since", ""], 2, "no id"),
    (["--contains", "x"], 2, "not for this command"),
])
def test_ctl_refused(shared, args, code, words):
    got, out, err = Ctl(shared, *args).end()
    assert (got, out) == (code, "") and words in err


def test_ctl_without_a_daemon(make_daemon):
    daemon = make_daemon().start()
    url = daemon.url
    daemon.stop()
    daemon.url = url
    code, out, err = Ctl(daemon).end()
    assert (code, out) == (3, "") and "cannot reach" in err
