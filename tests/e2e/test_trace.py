"""W3C Trace Context: what a traceparent brings is answered and logged, and what is none is ignored
(the cases are the recommendation's own), with the access log beside it."""
import json
import re
import threading

import pytest

from event_stream import EventStream
from test_http import ASK, Wire, request

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
SHAPE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def answered(daemon, *headers, method="GET", path="/health/live"):
    """The headers of an answer to a request with these header lines, as they stand."""
    with Wire(daemon) as wire:
        lines = "".join(f"{h}\r\n" for h in headers)
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("latin-1"))
        status, found, _ = wire.answer(method)
        return status, found


def traced(daemon, *headers, **more):
    """(trace id, span id, flags) of the answer, or None; the request itself is always answered."""
    status, found = answered(daemon, *headers, **more)
    assert status == 200
    value = found["traceparent"]
    if value is None:
        assert found["tracestate"] is None
        return None
    return SHAPE.fullmatch(value).groups()


# ---- what is one

@pytest.mark.sanitizer
def test_a_trace_is_answered_with_a_span_of_our_own(shared):
    spans = set()
    for _ in range(20):
        trace, span, flags = traced(shared, f"traceparent: {GOOD}")
        assert trace == TRACE and flags == "01" and span not in (PARENT, "0" * 16)
        spans.add(span)
    assert len(spans) == 20
    assert traced(shared, f"traceparent: 00-{TRACE}-{PARENT}-00")[2] == "00"
    assert traced(shared, f"TraceParent: \t{GOOD} \t")[0] == TRACE, "names and spaces are HTTP's"
    assert traced(shared) is None


@pytest.mark.parametrize("value, flags", [
    (f"00-{TRACE}-{PARENT}-03", "01"),
    (f"00-{TRACE}-{PARENT}-ff", "01"),
    (f"00-{TRACE}-{PARENT}-fe", "00"),
    (f"01-{TRACE}-{PARENT}-01", "01"),
    (f"cc-{TRACE}-{PARENT}-01", "01"),
    (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", "01"),
    (f"fe-{TRACE}-{PARENT}-00-", "00"),
])
def test_flags_and_versions_to_come(shared, value, flags):
    assert traced(shared, f"traceparent: {value}")[::2] == (TRACE, flags)


@pytest.mark.parametrize("value", [
    "", "00", GOOD + "-", GOOD + ".", GOOD + "-what-the-future", GOOD[:-1], GOOD + "0",
    f"ff-{TRACE}-{PARENT}-01", f"0-{TRACE}-{PARENT}-01", f".0-{TRACE}-{PARENT}-01",
    f"cc-{TRACE}-{PARENT}-01.what", f"cc-{TRACE}-{PARENT}-0", f"zz-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT.upper()}-01",
    f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}0-{PARENT}-01", f"00-.{TRACE[1:]}-{PARENT}-01",
    f"00-{TRACE}-{PARENT[:-1]}-01", f"00-{TRACE}-{PARENT}0-01", f"00-{TRACE}-.{PARENT[1:]}-01",
    f"00-{TRACE}-{PARENT}-.0", f"00-{TRACE}-{PARENT}-0.", f"00-{TRACE}-{PARENT}-1",
    f"00_{TRACE}_{PARENT}_01", f"{GOOD},{GOOD}", "\xe9" * 55,
])
def test_what_is_no_traceparent_is_ignored(shared, value):
    assert traced(shared, f"traceparent: {value}", "tracestate: a=1") is None


@pytest.mark.sanitizer
def test_two_traceparents_are_none(shared):
    assert traced(shared, f"traceparent: {GOOD}", f"traceparent: {GOOD}") is None
    assert traced(shared, f"traceparent: {GOOD}", "x: y", "traceparent:") is None
    for name in ("trace-parent", "trace.parent", "traceparentx"):
        assert traced(shared, f"{name}: {GOOD}") is None


# ---- tracestate

def state(daemon, *values):
    return answered(daemon, f"traceparent: {GOOD}", *(f"tracestate: {v}" for v in values))[1][
        "tracestate"]


@pytest.mark.sanitizer
def test_tracestate_is_handed_on_as_it_is(shared):
    for value in ("congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
                  "a=1 ,\tb=2".replace("\t", " "), "tenant@system=x", "x" * 512):
        assert state(shared, value) == value
    assert state(shared, "a=1", "b=2,c=3", "d=4") == "a=1,b=2,c=3,d=4", "lists are one list"
    for value in ("", "x" * 513, "a=\xe9", "a=1\tb=2"):
        assert state(shared, value) is None
    assert state(shared, "x" * 300, "y" * 300) is None
    assert answered(shared, "tracestate: a=1")[1]["tracestate"] is None, "without a trace"


@pytest.mark.sanitizer
def test_no_header_is_injected(shared):
    for evil in ("a=1\rX-Evil: 1", "a=1\nX-Evil: 1", "a=1\r\n X-Evil: 1", "a=1\0X-Evil: 1"):
        with Wire(shared) as wire:
            wire.send(f"GET /health/live HTTP/1.1\r\nHost: localhost\r\ntraceparent: {GOOD}\r\n"
                      f"tracestate: {evil}\r\n\r\n".encode())
            _, headers, _ = wire.answer()
            assert "X-Evil" not in headers, "folded it is part of the value; else it is no HTTP"


@pytest.mark.sanitizer
def test_refusals_and_streams_are_traced_too(shared):
    status, headers = answered(shared, f"traceparent: {GOOD}", path="/nothing")
    assert status == 404 and SHAPE.fullmatch(headers["traceparent"])[1] == TRACE
    status, headers = answered(shared, f"traceparent: {GOOD}", "Origin: https://evil.example")
    assert status == 403 and SHAPE.fullmatch(headers["traceparent"])[1] == TRACE
    status, headers = answered(shared, f"traceparent: {GOOD}", method="HEAD")
    assert status == 200 and SHAPE.fullmatch(headers["traceparent"])[1] == TRACE
    with Wire(shared) as wire:
        wire.send(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n"
                  b"traceparent: " + GOOD.encode() + b"\r\n\r\n")
        with wire.sock.makefile("rb") as stream:
            lines = [stream.readline() for _ in range(12)]
        assert any(TRACE.encode() in line for line in lines), lines


@pytest.mark.sanitizer
def test_traces_do_not_mix(shared):
    """Pipelined, and side by side: each answer has its own request's."""
    def client(n):
        ids = [f"{n:016x}{i:015x}1" for i in range(40)]
        with Wire(shared) as wire:
            wire.send(b"".join(request(headers=f"traceparent: 00-{i}-{PARENT}-01\r\n".encode())
                               if k % 2 else request() for k, i in enumerate(ids)))
            with wire.sock.makefile("rb") as stream:
                for k, i in enumerate(ids):
                    head, line = {}, stream.readline()
                    assert line.startswith(b"HTTP/1.1 200"), line
                    while (line := stream.readline()) != b"\r\n":
                        name, value = line.decode().strip().split(": ", 1)
                        head[name] = value
                    stream.read(int(head["Content-Length"]))
                    found = SHAPE.fullmatch(head["traceparent"])[1] if "traceparent" in head else None
                    if found != (i if k % 2 else None):
                        wrong.append((i, head))
    wrong = []
    threads = [threading.Thread(target=client, args=(n,)) for n in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]


# ---- the access log

def lines_of(daemon):
    """What the access log says, a dict a line."""
    found = []
    for line in daemon.text().splitlines():
        if " event=request " in line:
            found.append(dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)))
    return found


def talk(daemon):
    """A sampled question, one that is not, one without a trace; then what must not be logged."""
    for flags in ("01", "00"):
        daemon.call("POST", "/v1/classify", {"inputs": "XYLOPHONE one"}, expect=200,
                    headers={"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
    daemon.ask("XYLOPHONE two")
    sampled = {"traceparent": GOOD}
    daemon.call("POST", "/v1/models/default/labels", {"label": "XYLOPHONE"}, headers=sampled)
    daemon.call("GET", "/v1/models/default/examples?q=XYLOPHONE", headers=sampled)
    daemon.call("DELETE", "/v1/models/default/labels/XYLOPHONE", headers=sampled)
    daemon.call("GET", "/v1/models/XYLOPHONE", headers=sampled)
    daemon.call("GET", "/XYLOPHONE/XYLOPHONE?XYLOPHONE", headers=sampled)


@pytest.mark.sanitizer
def test_sampled_requests_have_a_line(make_daemon):
    daemon = make_daemon().start()
    talk(daemon)
    with Wire(daemon) as wire:
        wire.send(b"GET / HTTP/1.1\r\ntraceparent: " + GOOD.encode() + b"\r\n\r\n")
        assert wire.answer()[0] == 400, "no Host"
    daemon.stop()
    lines = lines_of(daemon)
    assert [line["status"] for line in lines] == ["200", "201", "200", "204", "404", "404", "400"]
    assert all(line["trace_id"] == TRACE and line["parent_id"] == PARENT for line in lines)
    assert len({line["span_id"] for line in lines}) == len(lines)
    assert all(re.fullmatch(r"[0-9A-Z]{26}", line["request_id"]) for line in lines)
    assert lines[0]["method"] == "POST" and lines[0]["route"] == "/v1/classify"
    assert int(lines[0]["took_us"]) > 0 and int(lines[0]["bytes"]) > 100
    assert lines[3]["route"] == "/v1/models/{}/labels/{}" and lines[3]["bytes"] == "0"
    assert "route" not in lines[5], "a path that is none is not shown"
    assert "XYLOPHONE" not in daemon.text()


@pytest.mark.parametrize("how, lines", [("none", 0), ("all", 8), ("sampled", 6)])
def test_log_requests(make_daemon, how, lines):
    daemon = make_daemon(args=["--log-requests", how]).start()
    talk(daemon)
    daemon.stop()
    found = lines_of(daemon)
    assert len(found) == lines
    if how == "all":
        assert sum("trace_id" not in line for line in found) == 1
    assert "XYLOPHONE" not in daemon.text()


@pytest.mark.sanitizer
def test_the_line_and_the_answer_say_the_same(make_daemon):
    daemon = make_daemon().start()
    answer = daemon.call("POST", "/v1/classify", ASK, headers={"traceparent": GOOD}, expect=200)
    with EventStream(daemon, "types=label"):
        pass
    daemon.stop()
    (line,) = lines_of(daemon)
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line["span_id"] == SHAPE.fullmatch(answer.headers["traceparent"])[2]
    assert int(line["bytes"]) == len(answer.content)
    assert json.loads(answer.content)["results"][0]["request_id"] == line["request_id"]
