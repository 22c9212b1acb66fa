"""Ten thousand connections that do nothing, and as many as the system allows."""
import re
import resource
import socket
import struct
from pathlib import Path

import pytest

from learnd_process import sanitized
from test_http import GET, Wire, count

MEGABYTE = 1 << 20


@pytest.fixture
def many():
    """Opens connections of this process; all are reset at the end, so that no port waits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = []

    def connect(daemon, n):
        n = min(n, hard - 500)
        for _ in range(n):
            s = socket.socket()
            sockets.append(s)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.connect((daemon.host, daemon.port))
        return sockets[-n:]

    yield connect
    for s in sockets:
        s.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("daemon", [{"args": ["--loops", "2"]}], indirect=True)
def test_ten_thousand_idle_connections(daemon, many):
    """At most 60 MB for 10,000, half of which have asked before; and others are served."""
    daemon.ask(["warm"] * 256)
    before = daemon.rss()
    idle = many(daemon, 10_000)
    if len(idle) < 10_000:
        pytest.skip(f"SKIPPED: ulimit -Hn allows {len(idle)} connections, not 10,000")
    for s in idle[::2]:
        s.sendall(GET)
    for s in idle[::2]:
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert count(daemon, "learnd_connections") >= 10_000
    assert len(daemon.ask(["still there"] * 10)["results"]) == 10
    assert count(daemon, "learnd_connections_refused_total") == 0
    if not sanitized():
        assert daemon.rss() - before <= 60 * MEGABYTE, (daemon.rss() - before) / MEGABYTE
    for s in (idle[0], idle[5000], idle[-1]):
        s.sendall(GET)
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")


def limits(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_of_files_is_raised(make_daemon):
    daemon = make_daemon(args=["--connections", "1000"], preexec=limits(200, 4000)).start()
    open_files = Path(f"/proc/{daemon.pid}/limits").read_text()
    assert re.search(r"Max open files\s+1256 ", open_files)
    assert "few_descriptors" not in daemon.text()


@pytest.mark.sanitizer
def test_the_hard_limit_is_said(make_daemon, many):
    """Where the daemon may not have as many files as it would need, it says how many connections
    there can be, and refuses more as over any limit."""
    daemon = make_daemon(args=["--connections", "1000"], preexec=limits(500, 500)).start()
    found = re.search(r"event=few_descriptors connections=(\d+) wanted=1000", daemon.text())
    if not found:
        open_files = Path(f"/proc/{daemon.pid}/limits").read_text()
        assert re.search(r"Max open files\s+1256\s+1256", open_files)
        pytest.skip("SKIPPED: this user may raise the hard limit (CAP_SYS_RESOURCE)")
    assert found.group(1) == "244"
    many(daemon, 244)
    with Wire(daemon) as w:
        assert w.send(GET).answer()[0] == 503


@pytest.mark.parametrize("args, says", [
    (["--connections", "255"], "256 to 65536"), (["--connections", "65537"], "256 to 65536"),
    (["--connections", "many"], "256 to 65536"),
])
def test_bad_settings(args, says):
    from learnd_process import run
    ended = run(*args)
    assert ended.returncode == 2 and says in ended.stderr
