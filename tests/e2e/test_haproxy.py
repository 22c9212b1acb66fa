"""deploy/haproxy.cfg with Debian's haproxy: TLS in front of one daemon, and of two under load.
What is changed of the file is said in Proxy: addresses, the certificate, and how often it looks."""
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

from learnd_process import ROOT

CONFIG = ROOT / "deploy" / "haproxy.cfg"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(for the proxy: certificate and key in one file, for clients)."""
    if shutil.which("haproxy") is None:
        pytest.skip("SKIPPED: haproxy is not installed (deploy/deps.sh test)")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=learnd.test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                    folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    (folder / "pem").write_text((folder / "crt").read_text() + (folder / "key").read_text())
    return folder / "pem", folder / "crt"


class Proxy:
    def __init__(self, folder, certificate, servers):
        self.verify = str(certificate[1])
        text = CONFIG.read_text()
        for pattern, new in [(r"bind :443 ", "bind fd@${LEARND_DOOR} "),
                             (r"crt \S+", f"crt {certificate[0]}"),
                             (r"inter 1s", "inter 100ms"),
                             (r"    server a \S+\n", "".join(
                                 f"    server s{i} {s}\n" for i, s in enumerate(servers)))]:
            text, count = re.subn(pattern, new, text)
            assert count == 1, pattern
        (folder / "haproxy.cfg").write_text(text)
        self.door = socket.socket()  # listens from now on: nothing else can take the port
        self.door.bind(("127.0.0.1", 0))
        self.door.listen(64)
        self.host = f"127.0.0.1:{self.door.getsockname()[1]}"
        self.url = f"https://{self.host}"
        self.log = folder / "haproxy.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                ["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, pass_fds=[self.door.fileno()],
                env={"LEARND_DOOR": str(self.door.fileno()), "PATH": "/usr/sbin:/usr/bin"})

    def session(self):
        session = requests.Session()
        session.trust_env = False
        session.verify = self.verify
        return session

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.door.close()


@pytest.fixture
def make_proxy(tmp_path, certificate):
    made = []

    def make(*servers):
        made.append(Proxy(tmp_path, certificate, servers))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


class Echo(http.server.BaseHTTPRequestHandler):
    """A server that tells what reaches it."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # pylint: disable=invalid-name
        body = json.dumps([[k.lower(), v] for k, v in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


@pytest.fixture
def echo():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_reaches_the_daemon(make_proxy, echo):
    """The client's address is the proxy's word and nobody else's; Host is the daemon's; a page of
    another origin does not get through, one of the proxy's own does."""
    proxy = make_proxy(echo)
    session = proxy.session()
    answer = session.get(proxy.url + "/v1/info", headers={
        "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "gopher", "Origin": proxy.url})
    got = answer.json()
    assert [v for k, v in got if k == "x-forwarded-for"] == ["127.0.0.1"]
    assert [v for k, v in got if k == "x-forwarded-proto"] == ["https"]
    assert [v for k, v in got if k == "host"] == ["localhost"]
    assert "origin" not in dict(got)
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    for origin in ("https://elsewhere.example", "null", proxy.url.replace("https", "http")):
        assert session.get(proxy.url + "/v1/info", headers={"Origin": origin}).status_code == 403
    for path in ("/metrics", "/health/ready", "/health/live"):
        assert session.get(proxy.url + path).status_code == 404


def test_through_tls(make_daemon, make_proxy):
    daemon = make_daemon(args=["--trusted-proxies", "127.0.0.1"]).start()
    proxy = make_proxy(f"127.0.0.1:{daemon.port}")
    session = proxy.session()

    def post(path, body, expect):
        answer = session.post(proxy.url + path, json=body)
        assert answer.status_code == expect, answer.text
        daemon.contract.check("POST", path, answer)
        return answer.json()

    post("/v1/feedback", {"items": [{"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}],
                          "wait": "applied"}, 202)
    before = connections(daemon)
    for _ in range(20):
        assert post("/v1/classify", {"inputs": "a b"}, 200)["results"][0]["label"] == "x"
    assert connections(daemon) - before <= 3, "kept alive on the daemon's side too"
    post("/v1/classify", {}, 422)
    done = subprocess.run(["curl", "-s", "--cacert", proxy.verify, "-o", "/dev/null", "-w",
                           "%{http_version} %{http_code}", proxy.url + "/v1/info"], check=True,
                          capture_output=True, text=True, timeout=60)
    assert done.stdout == "2 200"
    done = subprocess.run(["curl", "-s", "--cacert", proxy.verify, "--tls-max", "1.1",
                           proxy.url + "/v1/info"], check=False, timeout=60, capture_output=True)
    assert done.returncode == 35, "an old TLS is refused"
    # Whose address the audit has: the client's, which the proxy has seen, whatever a client says.
    subprocess.run(["curl", "-sf", "--cacert", proxy.verify, "--interface", "127.0.0.2", "-H",
                    "X-Forwarded-For: 127.0.0.3", "-H", "Content-Type: application/json", "-d",
                    '{"name": "theirs"}', proxy.url + "/v1/models"], check=True,
                   capture_output=True, timeout=60)
    assert daemon.get("/v1/audit")["audit"][0]["address"] == "127.0.0.2"
    # An event goes through as it happens.
    with session.get(proxy.url + "/v1/events", stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        daemon.post("/v1/models", {"name": "seen"}, expect=201)
        assert any(b"seen" in line for line in lines)


def connections(daemon):
    page = daemon.call("GET", "/metrics").text
    return int(float(re.search(r"^learnd_connections_total(?:\{\})? (\S+)", page, re.M).group(1)))


class Load(threading.Thread):
    """Asks by a connection that it keeps, until it is told to end."""

    def __init__(self, proxy):
        super().__init__()
        self.proxy, self.ending = proxy, threading.Event()
        self.good, self.bad = 0, []

    def run(self):
        session = self.proxy.session()
        while not self.ending.is_set():
            try:
                answer = session.post(self.proxy.url + "/v1/classify", json={"inputs": "some text"},
                                      timeout=60)
                if answer.status_code == 200:
                    self.good += 1
                else:
                    self.bad.append((answer.status_code, answer.text[:200]))
            except requests.RequestException as error:
                self.bad.append(repr(error))


def test_restarts_fail_no_request(make_daemon, make_proxy, tmp_path):
    """Two daemons, each stopped and started again under load, by turns: nobody notices."""
    sockets = [tmp_path / f"{name}.sock" for name in "ab"]
    daemons = [make_daemon(name=path.stem, args=["--listen", f"unix:{path}", "--drain-grace", "2"])
               .start() for path in sockets]
    proxy = make_proxy(*(f"unix@{path}" for path in sockets))
    loads = [Load(proxy) for _ in range(4)]
    for load in loads:
        load.start()
    try:
        for daemon in daemons:
            offset = proxy.log.stat().st_size
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(60) == 0
            daemon.forget()
            # It was out before it closed, and the other one did all the work meanwhile.
            assert b"is DOWN" in proxy.log.read_bytes()[offset:]
            daemon.start()
            wait_for(proxy.log, b"is UP", offset)
    finally:
        for load in loads:
            load.ending.set()
        for load in loads:
            load.join()
    assert [bad for load in loads for bad in load.bad] == []
    assert sum(load.good for load in loads) > 100
    for name in (b"s0", b"s1"):  # both have served
        assert re.search(rb"learnd/%s [0-9/]+ 200 " % name, proxy.log.read_bytes())
    for daemon in daemons:
        daemon.process.send_signal(signal.SIGTERM)  # the fixture's second one ends the grace


def wait_for(log, words, offset, seconds=60):
    until = time.monotonic() + seconds
    while words not in log.read_bytes()[offset:]:
        assert time.monotonic() < until, log.read_text()[offset:]
        time.sleep(0.01)
