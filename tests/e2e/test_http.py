"""HTTP as it comes over the wire: raw sockets, pieces, pipelines, limits, clients that are slow or
leave."""
import http.client
import json
import socket
import threading

import pytest
import requests

from learnd_process import problem_of

ASK = b'{"inputs":"hello"}'


class Wire:
    """A socket that sends what it is told and reads whole answers."""

    def __init__(self, daemon):
        self.sock = socket.create_connection((daemon.host, daemon.port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces):
        for piece in pieces:
            self.sock.sendall(piece)
        return self

    def answer(self, method="GET"):
        answer = http.client.HTTPResponse(self.sock, method=method)
        answer.begin()
        body = answer.read()
        answer.headers["Content-Type"]  # pylint: disable=pointless-statement
        return answer.status, answer.headers, body

    def problem(self):
        """(status, code, field)"""
        status, headers, body = self.answer()

        class Seen:
            status_code = status

            @staticmethod
            def json():
                return json.loads(body)
        Seen.headers = headers
        return problem_of(Seen)

    def ended(self):
        """True when the daemon closes; fails by time-out when it does not."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def request(method=b"POST", path=b"/v1/classify", body=ASK, headers=b""):
    return (method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\n" + headers +
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def wire(shared):
    with Wire(shared) as w:
        yield w


# ---- connections

@pytest.mark.sanitizer
def test_keep_alive(wire):
    for _ in range(50):
        assert wire.send(request()).answer()[0] == 200


def test_connection_close(wire):
    _, headers, _ = wire.send(request(headers=b"Connection: close\r\n")).answer()
    assert headers["Connection"] == "close"
    assert wire.ended()


def test_http_1_0_closes(wire):
    wire.send(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert wire.answer()[0] == 200
    assert wire.ended()


@pytest.mark.sanitizer
def test_pipelined_answers_come_in_order(wire):
    kinds = [(request(body=json.dumps({"inputs": [{"text": f"t {i}", "id": str(i)}]}).encode()), i)
             for i in range(100)]
    wire.send(b"".join(GET + r for r, _ in kinds))
    with wire.sock.makefile("rb") as stream:
        for _, i in kinds:
            assert read_one(stream)["status"] == "live"
            assert read_one(stream)["results"][0]["id"] == str(i)


def read_one(stream):
    """One answer of a pipeline, from a buffered stream."""
    assert stream.readline().startswith(b"HTTP/1.1 200 ")
    headers = http.client.parse_headers(stream)
    return json.loads(stream.read(int(headers["Content-Length"])))


@pytest.mark.sanitizer
def test_a_pipeline_longer_than_what_is_held(shared):
    """More bytes than LIMIT_HELD_BYTES behind a request under way: the socket waits, nothing is
    lost."""
    body = json.dumps({"inputs": ["a b c"] * 200}).encode()
    many = 100  # a quarter of a megabyte
    with Wire(shared) as w:
        sender = threading.Thread(target=w.send, args=[request(body=body)] * many)
        sender.start()
        with w.sock.makefile("rb") as stream:
            for _ in range(many):
                assert len(read_one(stream)["results"]) == 200
        sender.join()


@pytest.mark.sanitizer
def test_a_byte_at_a_time(wire):
    whole = request()
    wire.send(*(whole[i:i + 1] for i in range(len(whole))))
    assert wire.answer()[0] == 200
    wire.send(whole[:70], whole[70:])
    assert wire.answer()[0] == 200


@pytest.mark.sanitizer
def test_chunked_body(wire):
    head = (b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    pieces = [ASK[i:i + 3] for i in range(0, len(ASK), 3)]
    wire.send(head, *(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces), b"0\r\n\r\n")
    status, _, body = wire.answer()
    assert status == 200 and len(json.loads(body)["results"]) == 1
    assert wire.send(GET).answer()[0] == 200


@pytest.mark.sanitizer
def test_chunked_body_over_the_limit(wire):
    head = (b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    try:
        wire.send(head, *[chunk] * 17)
    except OSError:
        pass  # it has answered already
    assert wire.problem() == (413, "body_too_large", None)


@pytest.mark.sanitizer
def test_expect_continue(wire):
    wire.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(ASK))
    assert wire.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.send(ASK).answer()[0] == 200


@pytest.mark.sanitizer
def test_expect_is_answered_before_the_body_is_sent(wire):
    wire.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert wire.problem() == (413, "body_too_large", None)
    assert wire.ended()


def test_unknown_expectation(wire):
    wire.send(request(headers=b"Expect: the-spanish-inquisition\r\n"))
    assert wire.problem()[:2] == (417, "expectation_failed")


# ---- methods

@pytest.mark.sanitizer
def test_head_is_get_without_a_body(wire):
    wire.send(GET)
    _, get_headers, body = wire.answer()
    wire.send(GET.replace(b"GET", b"HEAD"))
    status, headers, empty = wire.answer("HEAD")
    assert status == 200 and empty == b""
    assert headers["Content-Length"] == get_headers["Content-Length"] == str(len(body))
    wire.send(GET.replace(b"GET", b"HEAD").replace(b"/health/live", b"/v1/models/nobody"))
    assert wire.answer("HEAD")[0] == 404
    assert wire.send(GET).answer()[0] == 200, "nothing of a HEAD's answer may be left over"


@pytest.mark.parametrize("path, method, allow", [
    ("/v1/classify", "GET", {"POST"}),
    ("/v1/feedback", "PUT", {"POST"}),
    ("/v1/models", "DELETE", {"GET", "HEAD", "POST"}),
    ("/v1/models/default", "POST", {"GET", "HEAD", "PATCH", "DELETE"}),
    ("/metrics", "POST", {"GET", "HEAD"}),
    ("/v1/examples/00", "PATCH", {"GET", "HEAD", "DELETE"}),
])
def test_wrong_method(shared, path, method, allow):
    answer = shared.call(method, path, "{}" if method in ("PUT", "PATCH", "POST") else None)
    assert problem_of(answer) == (405, "method_not_allowed", None)
    assert set(answer.headers["Allow"].split(", ")) == allow
    options = shared.call("OPTIONS", path, expect=204)
    assert set(options.headers["Allow"].split(", ")) == allow


def test_unknown_path(shared):
    for path in ("/v1", "/v1/classify/", "/v1/nothing", "//v1/models", "/v1/models/a/b/c/d"):
        assert shared.problem("GET", path) == (404, "not_found", None)
    assert shared.problem("POST", "/v2/models/x/infer", {"inputs": []})[0] == 404


def test_percent_encoded_path(shared):
    assert shared.get("/v1/models/%64efault")["name"] == "default"
    assert shared.call("GET", "/v1/models/a%00b").status_code == 404
    assert shared.call("GET", "/v1/models/a%zzb").status_code == 404


# ---- what is refused

@pytest.mark.parametrize("bytes_, status, code", [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_http"),
    (b"GARBAGE\r\n\r\n", 400, "malformed_http"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "missing_host"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "duplicate_header"),
    (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "version_not_supported"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400, "malformed_http"),
    (b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
     b"Content-Length: 4\r\n\r\n", 400, "malformed_http"),
    (b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n", 400, "malformed_http"),
    (b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400,
     "malformed_http"),
    (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "uri_too_long"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431,
     "headers_too_large"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 70 + b"\r\n", 431,
     "headers_too_large"),
    (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "upgrade_not_supported"),
    (b"GET /v1/info HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "unknown_host"),
    (b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403,
     "foreign_origin"),
], ids=["tls", "garbage", "no-host", "two-hosts", "http2", "bad-header", "two-lengths",
        "length-and-chunks", "negative-length", "long-uri", "long-header", "many-headers",
        "upgrade", "foreign-host", "foreign-origin"])
@pytest.mark.sanitizer
def test_refused_and_closed(wire, bytes_, status, code):
    assert wire.send(bytes_).problem()[:2] == (status, code)
    assert wire.ended()


def test_content_types(shared):
    def ask(kind):
        return shared.call("POST", "/v1/classify", ASK, headers={"Content-Type": kind})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp",
                 "application/x-ndjson"):
        assert problem_of(ask(kind)) == (415, "unsupported_media_type", None)
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON"):
        assert ask(kind).status_code == 200


@pytest.mark.sanitizer
def test_ten_megabytes(shared):
    """The answer arrives although its client is still sending."""
    with Wire(shared) as w:
        w.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
               b"Content-Type: application/json\r\nContent-Length: 10485760\r\n\r\n")
        try:
            for _ in range(160):
                w.send(b" " * 65536)
        except OSError:
            pass
        assert w.problem() == (413, "body_too_large", None)
    answer = shared.call("POST", "/v1/feedback", b"[" + b" " * (10 << 20))
    assert problem_of(answer) == (413, "body_too_large", None)


# ---- clients that are slow, half closed or gone

def count(daemon, name):
    for line in daemon.call("GET", "/metrics", expect=200).text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no {name}")


def until(check, what):
    """Polls; the daemon does its part on its own time."""
    for _ in range(20000):
        if check():
            return
    raise AssertionError(what)


@pytest.mark.sanitizer
def test_a_client_that_leaves_frees_its_place(make_daemon):
    daemon = make_daemon(args=["--lanes", "1"]).start()
    texts = [f"{i} " + "long " * 100 for i in range(256)]
    body = request(body=json.dumps({"inputs": texts}).encode())
    wires = [Wire(daemon).send(body) for _ in range(20)]
    for w in wires:
        w.close()
    until(lambda: count(daemon, "learnd_connections") == 1, "their connections stay")
    until(lambda: count(daemon, "learnd_queue_texts") == 0, "their texts stay in the queue")
    assert count(daemon, "learnd_clients_gone_total") > 0
    assert len(daemon.ask(texts)["results"]) == 256


@pytest.mark.sanitizer
def test_a_correction_outlives_its_client(shared, model):
    body = json.dumps({"model": model, "text": "sent and gone", "label": "x"}).encode()
    with Wire(shared) as w:
        w.send(request(path=b"/v1/feedback", body=body))
    until(lambda: shared.get(f"/v1/models/{model}")["examples"] == 1, "it was not kept")


@pytest.mark.sanitizer
def test_half_closed_counts_as_gone(shared):
    """Whoever ends his side before the answer has left, as far as TCP can tell; nothing stays
    behind."""
    before = count(shared, "learnd_connections")
    wires = [Wire(shared).send(request()) for _ in range(20)]
    for w in wires:
        w.sock.shutdown(socket.SHUT_WR)
    for w in wires:
        w.sock.settimeout(60)
        while w.sock.recv(65536):
            pass
        w.close()
    until(lambda: count(shared, "learnd_connections") == before, "connections stay")


@pytest.mark.sanitizer
def test_a_large_answer_to_a_client_that_ended_its_side(shared, model):
    """The answer was under way: it is delivered whole."""
    for half in range(2):
        shared.teach([{"text": f"{half} {i} " + "x" * 6000, "label": "x"} for i in range(500)],
                     model=model, wait="durable")
    path = f"/v1/models/{model}/examples?limit=1000".encode()
    with Wire(shared) as w:
        w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        w.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert w.sock.recv(12, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        w.sock.shutdown(socket.SHUT_WR)
        status, _, answer = w.answer()
        assert status == 200 and len(json.loads(answer)["examples"]) == 1000


@pytest.mark.sanitizer
def test_slow_reader_does_not_hold_up_others(shared):
    with Wire(shared) as slow:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        body = json.dumps({"inputs": ["x"] * 256}).encode()
        slow.send(*[request(path=b"/v1/embed", body=body)] * 40)
        for _ in range(20):
            shared.ask("hello")
        with slow.sock.makefile("rb") as stream:
            for _ in range(40):
                assert len(read_one(stream)["embeddings"]) == 256


@pytest.mark.sanitizer
def test_a_stream_that_breaks_off(shared, model):
    """A bad chunk in the middle of ndjson: 400, and whole batches before it are kept or not, but
    nothing leaks."""
    line = json.dumps({"model": model, "text": "a line", "label": "x"}).encode() + b"\n"
    head = (b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%s\r\n" % (len(line), line)
    with Wire(shared) as w:
        assert w.send(head, chunk, b"zz\r\n").problem()[:2] == (400, "malformed_http")
        assert w.ended()
    with Wire(shared) as w:
        w.send(head, chunk)  # and gone
    big = b"{" * (64 << 10)
    with Wire(shared) as w:
        try:
            w.send(head, *[b"%x\r\n%s\r\n" % (len(big), big)] * 100)
        except OSError:
            pass
        assert w.problem()[:2] == (413, "line_too_long")


def test_full_queue(make_daemon, minilm):
    """More texts than may wait: 503 with Retry-After for some, answers for the others, and all is
    well after. With the large encoder, since only there encoding is sure to be slower than
    arriving."""
    daemon = make_daemon(encoder=minilm, args=["--lanes", "1", "--max-tokens", "8"]).start()
    body = request(body=json.dumps({"inputs": ["many words at once for a queue"] * 256}).encode())
    wires = [Wire(daemon) for _ in range(60)]
    senders = [threading.Thread(target=w.send, args=[body]) for w in wires]
    for t in senders:
        t.start()
    seen = []
    for w, t in zip(wires, senders, strict=True):
        t.join()
        status, headers, answer = w.answer()
        seen.append(status)
        if status == 503:
            assert json.loads(answer)["code"] == "queue_full" and headers["Retry-After"] == "1"
        else:
            assert status == 200 and len(json.loads(answer)["results"]) == 256
        w.close()
    assert {200, 503} == set(seen), "the queue was never full"
    assert count(daemon, 'learnd_refusals_total{code="queue_full"}') == seen.count(503)
    assert daemon.ask("hello")["results"]


@pytest.mark.sanitizer
@pytest.mark.parametrize("daemon", [{"args": ["--connections", "256", "--loops", "2"]}],
                         indirect=True)
def test_too_many_connections(daemon):
    """One over the limit is told so; when one leaves there is room again."""
    wires = []
    try:
        refused = None
        while refused is None and len(wires) < 300:
            w = Wire(daemon)
            wires.append(w)
            try:
                status, headers, body = w.send(GET).answer()
            except ConnectionResetError:  # its request came behind the end
                refused = len(wires)
                continue
            if status == 503:
                refused = len(wires)
                assert json.loads(body)["code"] == "too_many_connections"
                assert headers["Retry-After"] == "1"
        assert refused == 257
    finally:
        for w in wires:
            w.close()
    until(lambda: try_live(daemon), "no room after they left")
    turned_away = count(daemon, "learnd_connections_refused_total")
    assert count(daemon, 'learnd_refusals_total{code="too_many_connections"}') == turned_away >= 1


def try_live(daemon):
    daemon.session.close()
    try:
        return daemon.call("GET", "/health/live").status_code == 200
    except requests.ConnectionError:  # turned away before it had asked
        return False
