"""What comes over the wire from those who mean no good: requests that two programs would read
differently, bytes that do not belong into a head, paths that lead elsewhere, clients that dribble,
pages of other origins.

Each attack that would smuggle has a whole request hidden behind it: if that is answered, it worked.
"""
import json
import socket

import pytest
import requests

from learnd_process import problem_of
from test_http import GET, Wire, count, request

HOST = b"Host: localhost\r\n"
BODY = b'{"inputs":"a"}'
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def post(headers, body=BODY):
    return (b"POST /v1/classify HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n" +
            headers + b"\r\n" + body)


def get(headers=b"", line=b"GET /health/live HTTP/1.1\r\n", host=HOST):
    return line + host + headers + b"\r\n"


SMUGGLING = {
    "length-and-chunks": post(CHUNKED + b"Content-Length: 3\r\n", b"0\r\n\r\n"),
    "chunks-and-length": post(b"Content-Length: 3\r\n" + CHUNKED, b"0\r\n\r\n"),
    "two-lengths": post(b"Content-Length: 14\r\nContent-Length: 15\r\n"),
    "the-same-length-twice": post(b"Content-Length: 14\r\nContent-Length: 14\r\n"),
    "list-of-lengths": post(b"Content-Length: 14, 14\r\n"),
    "length-plus": post(b"Content-Length: +14\r\n"),
    "length-hex": post(b"Content-Length: 0xe\r\n"),
    "length-in-two": post(b"Content-Length: 1 4\r\n"),
    "length-empty": post(b"Content-Length: \r\n"),
    "length-overflow": post(b"Content-Length: 18446744073709551630\r\n"),
    "coding-twice": post(CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "coding-space-colon": post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "coding-vertical-tab": post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "coding-folded": post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "chunks-of-1.0": post(CHUNKED, b"e\r\n" + BODY + b"\r\n0\r\n\r\n").replace(b"1.1", b"1.0"),
    "chunk-overflow": post(CHUNKED, b"1000000000000000e\r\n" + BODY),
    "chunk-negative": post(CHUNKED, b"-1\r\n" + BODY),
    "chunk-0x": post(CHUNKED, b"0xe\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-space": post(CHUNKED, b"e \r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-lf": post(CHUNKED, b"e\n" + BODY + b"\n0\n\n"),
    "chunk-without-end": post(CHUNKED, b"e\r\n" + BODY + b"0\r\n\r\n"),
    "chunk-empty-size": post(CHUNKED, b"\r\n" + BODY + b"0\r\n\r\n"),
    "chunk-extension-lf": post(CHUNKED, b"e;a=\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-extension-cr": post(CHUNKED, b"e;a=\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "folded": get(b"X: a\r\n b\r\n"),
    "folded-by-tab": get(b"X: a\r\n\tb\r\n"),
    "folded-first": get(host=b" Host: localhost\r\n"),
    "bare-lf": b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
    "bare-lf-header": get(b"X: a\nY: b\r\n"),
    "bare-lf-end": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\n",
    "bare-cr": get(b"X: a\rb\r\n"),
    "bare-cr-header": get(b"X: a\rContent-Length: 5\r\n"),
    "cr-cr-lf": get(b"X: a\r\r\n"),
    "nul-in-value": get(b"X: a\x00b\r\n"),
    "nul-in-name": get(b"X\x00: a\r\n"),
    "control-in-value": get(b"X: a\x01b\r\n"),
    "delete-in-value": get(b"X: a\x7fb\r\n"),
    "space-in-name": get(b"X Y: a\r\n"),
    "name-empty": get(b": a\r\n"),
    "no-colon": get(b"X\r\n"),
    "two-spaces": get(line=b"GET  /health/live HTTP/1.1\r\n"),
    "two-spaces-before-version": get(line=b"GET /health/live  HTTP/1.1\r\n"),
    "tabs": get(line=b"GET\t/health/live\tHTTP/1.1\r\n"),
    "nul-in-path": get(line=b"GET /health/\x00live HTTP/1.1\r\n"),
    "cr-in-path": get(line=b"GET /health/live\r HTTP/1.1\r\n"),
    "small-letters": get(line=b"GET /health/live http/1.1\r\n"),
    "unknown-method": get(line=b"BREW /health/live HTTP/1.1\r\n"),
    "preface-of-http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two-keys": get(b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
    "two-origins": get(b"Origin: http://localhost\r\nOrigin: http://evil.example\r\n"),
}


def answers_of(daemon, bytes_):
    """Everything that comes back until the daemon closes."""
    with Wire(daemon) as w:
        w.send(bytes_)
        got = b""
        try:
            while piece := w.sock.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got


@pytest.mark.sanitizer
@pytest.mark.parametrize("attack", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_nothing_is_smuggled(shared, attack):
    got = answers_of(shared, attack + GET)
    assert got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1") == 1, got
    assert b"Connection: close\r\n" in got


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"xchunked", b"identity", b""])
def test_other_codings(shared, coding):
    got = answers_of(shared, post(b"Transfer-Encoding: %s\r\n" % coding, b"0\r\n\r\n") + GET)
    assert got.startswith((b"HTTP/1.1 501 ", b"HTTP/1.1 400 ")) and got.count(b"HTTP/1.1") == 1


def test_what_is_only_unusual_is_taken(shared):
    with Wire(shared) as w:
        for bytes_ in (b"\r\n\r\n" + GET, get(b"X:a\r\nY: \t a \t\r\n"), get(b"X: \xff\r\n"),
                       post(b"Transfer-Encoding:\tChunked\r\n",
                            b"E\r\n" + BODY + b"\r\n0\r\n\r\n"),
                       post(CHUNKED, b"e;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"),
                       post(CHUNKED, b"e\r\n" + BODY + b"\r\n0\r\nExpect: x\r\n\r\n"),
                       get(b"Connection: Upgrade\r\nUpgrade: h2c\r\n")):
            assert w.send(bytes_).answer()[0] == 200, bytes_
        pieces = get(b"X: a\r\n")
        assert w.send(*(pieces[i:i + 1] for i in range(len(pieces)))).answer()[0] == 200
    with Wire(shared) as w:  # a fold that comes byte by byte
        pieces = get(b"X: a\r\n b\r\n")
        try:
            w.send(*(pieces[i:i + 1] for i in range(len(pieces))))
        except OSError:
            pass
        assert w.problem()[:2] == (400, "malformed_http")


# ---- heads that are too large

@pytest.mark.parametrize("bytes_, status", [
    (get(line=b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\n"), 414),
    (get(line=b"GET /?" + b"a" * 4096 + b" HTTP/1.1\r\n"), 414),
    (get(b"X" * 9000 + b": a\r\n"), 431),
    (get(b"".join(b"X%d: %s\r\n" % (i, b"a" * 400) for i in range(21))), 431),
    (get(b"Authorization: Bearer " + b"a" * 9000 + b"\r\n"), 431),
])
def test_heads_that_are_too_large(shared, bytes_, status):
    got = answers_of(shared, bytes_ + GET)
    assert got.startswith(b"HTTP/1.1 %d " % status) and got.count(b"HTTP/1.1") == 1


# ---- paths

@pytest.mark.parametrize("path", [
    "/v1/models/%2e%2e", "/v1/models/..", "/v1/models/../../etc/passwd", "/../v1/models",
    "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "//v1/models", "/v1//models", "/v1/models//labels",
    "/v1/models/default%00", "/%00", "/v1/models/%c0%ae%c0%ae", "/v1/models/%", "/v1/models/%2",
    "/v1/models/%gg", "/v1/models/default/", "/v1/models/default/encoder/..%2f..%2flearnd.db",
    "/v1/models/default/encoder/%2e%2e", "/v1/models/default/encoder/model.safetensors%00.txt",
    "/v1/models/default/encoder/....//config.json", "/V1/models", "/v1/models;x=1", "/v1/models\\",
    "http://evil.example/v1/models", "http://localhost/v1/models", "*", "/v1/models#x",
    "/v1/models/default/labels/%c0%ae", "/console/..%2f..%2fetc%2fpasswd",
])
def test_paths_lead_nowhere_else(shared, path):
    with Wire(shared) as w:
        w.send(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        status, _, body = w.answer()
    assert status in (400, 404, 405), body
    assert b"root:" not in body and b"SQLite" not in body


def test_names_cannot_break_out_of_headers(daemon):
    """Whatever is chosen from outside and comes back, comes in JSON."""
    odd = "a\r\nX-Evil: 1"
    assert daemon.problem("POST", "/v1/models", {"name": odd})[1] == "invalid_name"
    answer = daemon.call("GET", "/v1/models/a%0d%0aX-Evil:%201")
    assert answer.status_code == 404 and "X-Evil" not in answer.headers
    answer = daemon.call("GET", "/health/live", headers={"X-Request-Id": "evil",
                                                         "Origin": "http://localhost"})
    assert answer.headers["X-Request-Id"] != "evil"
    with Wire(daemon) as w:
        w.send(get(b"Origin: http://" + b"x" * 3000 + b"\r\n"))
        assert w.problem()[:2] == (403, "foreign_origin")


# ---- what every answer says, and to whom

def test_security_headers(shared, model):
    for method, path, body in (("GET", "/health/live", None), ("GET", "/openapi.json", None),
                               ("GET", "/metrics", None), ("GET", "/nothing", None),
                               ("PUT", "/v1/models", "{}"), ("OPTIONS", "/v1/models", None),
                               ("POST", "/v1/classify", {"inputs": "a", "model": model}),
                               ("POST", "/v1/classify", "{"), ("HEAD", "/v1/info", None)):
        headers = shared.call(method, path, body).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Cache-Control"] == "no-store", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert "Access-Control-Allow-Origin" not in headers and "Server" not in headers
    for text in (answers_of(shared, b"GARBAGE\r\n\r\n"), answers_of(shared, get(host=b""))):
        assert b"nosniff" in text and b"no-store" in text
    with requests.get(shared.url + "/v1/events", stream=True, timeout=60) as stream:
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["X-Content-Type-Options"] == "nosniff"


FOREIGN = ["https://evil.example", "null", "http://localhost", "http://127.0.0.1:1",
           "file://", "", "http://localhost.evil.example", "chrome-extension://abcdef"]


@pytest.mark.sanitizer
def test_pages_of_other_origins(shared):
    """A browser says where a page is from: without keys that is all that keeps it out."""
    own = f"http://{shared.host}:{shared.port}"
    for method, path, body in (("POST", "/v1/classify", {"inputs": "a"}),
                               ("DELETE", "/v1/models/none", None), ("GET", "/v1/models", None)):
        for origin in FOREIGN:
            answer = shared.call(method, path, body, headers={"Origin": origin})
            assert problem_of(answer)[:2] == (403, "foreign_origin"), origin
        answer = shared.call(method, path, body, headers={"Origin": own})
        assert answer.status_code in (200, 204)
    assert count(shared, 'learnd_refusals_total{code="foreign_origin"}') >= 3 * len(FOREIGN)
    # A form can post these three types without asking anybody first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        answer = requests.post(shared.url + "/v1/erase", data=b'{"text":"a"}', timeout=60,
                               headers={"Content-Type": kind} if kind else {})
        assert problem_of(answer)[:2] == (415, "unsupported_media_type")


def test_cors(make_daemon):
    page = "https://app.example"
    daemon = make_daemon(args=["--cors-origins", f"{page}, http://b.example:8080"]).start()
    answer = daemon.call("GET", "/v1/models", headers={"Origin": page}, expect=200)
    assert answer.headers["Access-Control-Allow-Origin"] == page
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    asked = daemon.call("OPTIONS", "/v1/classify", expect=204, headers={
        "Origin": page, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type"})
    assert asked.headers["Access-Control-Allow-Origin"] == page
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    assert "authorization" in asked.headers["Access-Control-Allow-Headers"].lower()
    refused = daemon.call("GET", "/nothing", headers={"Origin": page}, expect=404)
    assert refused.headers["Access-Control-Allow-Origin"] == page  # so that the page can read why
    for origin in (page + ".evil.example", page.upper(), "http://app.example", page + "/"):
        answer = daemon.call("GET", "/v1/models", headers={"Origin": origin}, expect=403)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
    # With keys a page may call from anywhere, and its browser keeps the answer from it.
    key = daemon.post("/v1/keys", {"name": "root", "role": "admin"}, expect=201)["key"]
    daemon.session.headers["Authorization"] = f"Bearer {key}"
    answer = daemon.call("GET", "/v1/models", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200 and "Access-Control-Allow-Origin" not in answer.headers
    asked = daemon.call("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example"})
    assert asked.status_code == 204 and "Access-Control-Allow-Methods" not in asked.headers


# ---- clients that take their time, or end half way

@pytest.mark.sanitizer
def test_half_a_request_and_the_end(shared):
    """Nothing waits for the rest of a request whose client has ended its side."""
    before = count(shared, "learnd_connections")
    wires = []
    for whole in (GET, request(), request(headers=b"X: " + b"a" * 100 + b"\r\n")):
        for share in (1, len(whole) // 2, len(whole) - 1):
            w = Wire(shared).send(whole[:share])
            w.sock.shutdown(socket.SHUT_WR)
            wires.append(w)
    for w in wires:
        assert w.ended()
        w.close()
    assert count(shared, "learnd_connections") == before


def test_dribbling_clients(shared, model):
    """A byte a second, or none, keeps no request alive for longer than half a minute: not its head,
    not its body, not a stream; they hold nobody up meanwhile; and a stream that goes on may."""
    line = json.dumps({"model": model, "text": "a", "label": "x"}).encode() + b"\n"
    stream = (b"POST /v1/feedback HTTP/1.1\r\n" + HOST +
              b"Content-Type: application/x-ndjson\r\n" + CHUNKED + b"\r\n")
    rest = b"%x\r\n%s\r\n" % (len(line), line)
    with (Wire(shared) as head, Wire(shared) as body, Wire(shared) as lines, Wire(shared) as none,
          Wire(shared) as steady):
        pieces = {head: b"X: " + b"a" * 400, body: b"x" * 400, lines: rest * 10, none: b""}
        none.send(request()[:-4])
        steady.send(stream)
        head.send(get()[:-2])
        body.send(post(b"Content-Length: 5000\r\n", b""))
        lines.send(stream)
        steps = 0
        waiting = set(pieces)
        while waiting:
            assert steps < 400, "they are still waited for"
            for w in set(waiting):
                w.sock.settimeout(0.2)
                try:
                    w.sock.recv(1, socket.MSG_PEEK)
                    waiting.discard(w)
                except TimeoutError:
                    if steps % 2 == 0:
                        w.send(pieces[w][steps // 2:steps // 2 + 1])
            steady.send(rest)
            shared.get("/health/live")
            steps += 1
        for w in pieces:
            w.sock.settimeout(60)
            assert w.problem()[:2] == (408, "request_timeout")
            assert w.ended()
        steady.send(*[rest] * 10, b"0\r\n\r\n")
        status, _, answer = steady.answer()
        assert status == 202 and json.loads(answer)["accepted_count"] == steps + 10
    assert count(shared, "learnd_timeouts_total") >= 4
