"""Under a service manager: what it is told, the watchdog, sockets handed over. Here the manager is
a socket and a few environment variables; test_package.py has a real systemd."""
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from learnd_process import ROOT, TINY, binary, environment, sanitized
from service_manager import Frozen, Manager, allowed_calls, filter_of, threads

UNIT = ROOT / "deploy" / "learnd.service"


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


# ---- telling

@pytest.mark.sanitizer
def test_what_a_manager_is_told(make_daemon, manager):
    daemon = make_daemon(env=manager.environment())
    daemon.start_unready()
    steps = []
    while True:
        said = manager.next()
        if said.get("READY") == "1":
            break
        steps.append(said["STATUS"])
        assert int(said["EXTEND_TIMEOUT_USEC"]) > 0
    assert [s.split(": ")[1] for s in steps] == \
        ["opening the encoder", "opening the state folder", "bringing the models live"]
    address = daemon.wait_line(r"event=listening address=(http://\S+)")
    daemon.url = address.group(1)  # READY means that it can be asked at once
    version = daemon.get("/v1/info")["version"]
    said = manager.wait("STATUS")
    assert said["STATUS"].startswith(f"learnd {version}: 0 texts queued, ")
    # A status is sent when it has changed.
    with socket.create_connection(daemon.url[7:].split(":")):
        said = manager.wait("STATUS", f"learnd {version}: 0 texts queued, 2 connections")
    daemon.process.send_signal(signal.SIGHUP)
    said = manager.wait("RELOADING", "1")
    assert int(said["MONOTONIC_USEC"]) > 0
    manager.wait("READY", "1")
    daemon.stop()
    said = manager.wait("STOPPING", "1")
    assert "stopping" in said["STATUS"]


def test_a_start_that_fails_says_why(make_daemon, manager, tmp_path):
    daemon = make_daemon(env=manager.environment(), encoder="/nowhere")
    daemon.start_unready()
    assert daemon.process.wait(60) == 1
    daemon.forget()
    while True:
        said = manager.next(0)
        assert said is not None and "READY" not in said
        if "/nowhere" in said["STATUS"]:
            break


def test_not_ready_before_a_text_went_through_a_lane(make_daemon, manager, tmp_path):
    """Weights that load, and are so large that no text comes out as numbers."""
    folder = shutil.copytree(TINY, tmp_path / "encoder")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    header = struct.unpack("<Q", weights[:8])[0]
    tensors = json.loads(weights[8:8 + header])
    name = next(n for n in tensors if n.endswith("embeddings.LayerNorm.weight"))
    begin, end = (8 + header + at for at in tensors[name]["data_offsets"])
    assert tensors[name]["dtype"] == "F32"
    weights[begin:end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    (folder / "model.safetensors").write_bytes(weights)
    daemon = make_daemon(env=manager.environment(), encoder=folder)
    daemon.start_unready()
    assert daemon.process.wait(60) == 1
    daemon.forget()
    assert "cannot encode a first text" in daemon.text()
    while (said := manager.next(0)) is not None:
        assert "READY" not in said


@pytest.mark.parametrize("env, words", [
    ({"NOTIFY_SOCKET": "relative"}, "NOTIFY_SOCKET relative: expected a path"),
    ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC soon: expected microseconds"),
])
def test_bad_variables(tmp_path, env, words):
    done = subprocess.run([str(binary()), "--state", tmp_path / "s", "--encoder", TINY, "--listen",
                           "127.0.0.1:0"], env=environment(env), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1], done.stderr


# ---- the watchdog

WATCHDOG_S = 0.6


@pytest.fixture
def watched(make_daemon, manager):
    daemon = make_daemon(env=manager.environment(WATCHDOG_S), args=["--lanes", "1"]).start()
    manager.wait("WATCHDOG", "1")
    return daemon


@pytest.mark.sanitizer
def test_fed_at_rest_and_under_load(watched, manager):
    for _ in range(3):
        manager.wait("WATCHDOG", "1")
    ending = threading.Event()

    def load(session):
        while not ending.is_set():
            watched.ask(["some text to look at"] * 8)

    worker = threading.Thread(target=load, args=(None, ))
    worker.start()
    try:
        for _ in range(5):
            manager.wait("WATCHDOG", "1")
    finally:
        ending.set()
        worker.join()


def quietly(call, *args, **more):
    """In a thread of its own, whatever comes of it."""
    def run():
        try:
            call(*args, **more)
        except Exception:  # pylint: disable=broad-except
            pass
    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.sanitizer
@pytest.mark.parametrize("thread, stuck, work", [
    ("loop", "loop", None),
    ("lane", "queue", ("/v1/classify", {"inputs": "hello"})),
    ("keeper", "keeper", ("/v1/feedback", {"items": [{"text": "a b", "label": "x"}]})),
])
def test_a_hung_thread_starves_the_watchdog(watched, manager, thread, stuck, work):
    """One thread stands still, all others go on: nobody is fed, the log says who is waited for, and
    when it goes on so does the feeding."""
    (one, ) = threads(watched.pid, thread)
    try:
        frozen = Frozen(one)
        frozen.__enter__()  # pylint: disable=unnecessary-dunder-call
    except PermissionError as error:
        pytest.skip(f"SKIPPED: no thread may be stopped here: {error}")
    try:
        waiting = quietly(watched.post, *work, expect=None) if work else None
        watched.wait_line(f"event=not_fed stuck={stuck}")
        manager.empty()
        fed = [said for said in iter(lambda: manager.next(2 * WATCHDOG_S), None)
               if "WATCHDOG" in said]
        assert fed == []
    finally:
        frozen.__exit__()
    if waiting:
        waiting.join()
    manager.wait("WATCHDOG", "1")
    assert watched.get("/health/ready")["status"] == "ready"


def test_who_is_not_watched_feeds_nobody(make_daemon, manager):
    env = {**manager.environment(WATCHDOG_S), "WATCHDOG_PID": "1"}
    make_daemon(env=env).start()
    manager.wait("READY", "1")
    assert not [said for said in iter(lambda: manager.next(2 * WATCHDOG_S), None)
                if "WATCHDOG" in said]


# ---- sockets handed over

def inherit(make_daemon, sockets, args=(), name="d", encoder=TINY):
    """A daemon that finds these sockets at 3, 4 ..; a shell in between says that they are its."""
    daemon = make_daemon(name=name, args=args, encoder=encoder)

    def hand_over():
        fds = [os.dup(s.fileno()) for s in sockets]
        high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)

    with open(daemon.log, "ab") as out:
        daemon.process = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", str(binary()), "--state", daemon.state,
             "--encoder", str(encoder), *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=environment({"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "door:side"}),
            preexec_fn=hand_over,
            close_fds=False)
    return daemon


def tcp(address="127.0.0.1"):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, 0))
    s.listen(64)
    return s


@pytest.mark.sanitizer
def test_inherited_sockets(make_daemon, tmp_path):
    """TCP and unix, shared by three loops; `listen` is not looked at; what waits in a socket while
    nobody serves is answered by the next daemon."""
    path = tmp_path / "socket"
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(path))
    local.listen(64)
    with tcp() as open_door, local:
        port = open_door.getsockname()[1]
        args = ["--loops", "3", "--listen", "127.0.0.1:1"]  # which nobody may bind
        for _ in range(2):
            daemon = inherit(make_daemon, [open_door, local], args)
            waiting = socket.create_connection(("127.0.0.1", port))  # before it is ready
            waiting.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
            waiting.close()
            daemon.wait_line("event=ready")
            assert f"listening address=http://127.0.0.1:{port} socket=door\n" in daemon.text()
            assert f"listening address={path} socket=side\n" in daemon.text()
            daemon.url = f"http://127.0.0.1:{port}"
            for _ in range(20):
                daemon.session.close()
                assert daemon.get("/v1/info")["loops"] == 3
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(path))
                s.sendall(b"GET /health/live HTTP/1.1\r\nHost: anything\r\n\r\n")
                assert s.recv(4096).startswith(b"HTTP/1.1 200")
            daemon.stop()
            assert path.exists(), "the manager's socket file stays"


def test_inherited_sockets_that_will_not_do(make_daemon, tmp_path):
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for i, (offered, words) in enumerate([
            ([closed], "descriptor 3 does not listen"),
            ([tcp(), datagrams], "descriptor 4 is no stream socket"),
            ([tcp() for _ in range(9)], "at most 8"),
            ([tcp("0.0.0.0")], "loopback only")]):
        daemon = inherit(make_daemon, offered, name=f"d{i}")
        assert daemon.process.wait(60) == 1
        daemon.forget()
        assert words in daemon.text(), daemon.text()
        for s in offered:
            s.close()


def test_sockets_for_somebody_else(make_daemon):
    """LISTEN_PID of another process: they are not ours, and `listen` counts."""
    daemon = make_daemon(env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}).start()
    assert daemon.get("/health/ready")["status"] == "ready"


def test_systemd_socket_activate(make_daemon, tmp_path):
    """systemd's own tool, which starts the daemon when the first one comes."""
    try:
        subprocess.run(["systemd-socket-activate", "--version"], check=True, capture_output=True)
    except OSError:
        pytest.skip("SKIPPED: systemd-socket-activate is not installed")
    daemon = make_daemon()
    path = tmp_path / "socket"
    with open(daemon.log, "ab") as out:
        passed = [f"--setenv={k}" for k in environment() if k.startswith(("OMP_", "HOME", "LD_"))]
        daemon.process = subprocess.Popen(
            ["systemd-socket-activate", "-l", str(path), *passed, "--", str(binary()), "--state",
             str(daemon.state), "--encoder", str(TINY)], stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, env=environment())
    daemon.wait_line("Listening on")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(b"GET /health/ready HTTP/1.1\r\nHost: anything\r\n\r\n")
        assert b'"ready"' in s.recv(4096)
    daemon.stop()


# ---- leaving

@pytest.mark.sanitizer
def test_drain_grace(make_daemon, manager):
    """After SIGTERM it says unready and still answers, each answer closing its connection; a second
    SIGTERM ends the wait."""
    daemon = make_daemon(args=["--drain-grace", "3600"], env=manager.environment()).start()
    manager.wait("READY")
    assert "Connection" not in daemon.call("GET", "/health/ready").headers  # it is kept
    daemon.process.send_signal(signal.SIGTERM)
    said = manager.wait("STOPPING", "1")
    assert int(said["EXTEND_TIMEOUT_USEC"]) > 3600e6
    answer = daemon.call("GET", "/health/ready", expect=503)
    checks = {c["name"]: c["ok"] for c in answer.json()["checks"]}
    assert [name for name, good in checks.items() if not good] == ["serving"]
    assert daemon.call("GET", "/health/live", expect=200).headers["Connection"] == "close"
    daemon.teach([("a b", "x")])
    assert daemon.ask("a b")["results"][0]["label"] == "x"
    daemon.process.send_signal(signal.SIGHUP)  # is no reason to go
    daemon.get("/health/live")
    daemon.stop()  # the second one


@pytest.mark.sanitizer
def test_who_has_just_come_is_answered(make_daemon):
    """A connection whose first request is on the way when the daemon is told to stop."""
    daemon = make_daemon().start()

    def connect():
        return socket.create_connection((daemon.host, daemon.port))

    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect() as idle, connect() as fresh:
        idle.sendall(ask)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        daemon.process.send_signal(signal.SIGTERM)
        assert idle.recv(4096) == b"", "it drains: what has nothing under way is closed"
        fresh.sendall(ask)
        answer = fresh.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200") and b"Connection: close" in answer
        assert fresh.recv(4096) == b""
    assert daemon.process.wait(60) == 0
    daemon.forget()


# ---- the unit

def exposure(*args):
    said = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=yes", *args],
                          capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Overall exposure level.*?: ([0-9.]+)", said).group(1))


def test_exposure(tmp_path):
    """What systemd thinks of the unit, 0 to 10; one without any hardening shows that it looks."""
    try:
        assert exposure(UNIT) <= 1.5
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SKIPPED: systemd-analyze cannot look at a file here: {error}")
    bare = tmp_path / "learnd.service"
    bare.write_text("[Service]\nExecStart=/usr/bin/learnd\n")
    assert exposure(bare) > 9


# SQLite gives its files the owner of the database, where it may; under the unit it is not root.
AS_ROOT = {"fchown"} if os.geteuid() == 0 else set()


@pytest.mark.skipif(sanitized(), reason="sanitizers make calls of their own")
def test_all_its_work_under_the_units_filter(make_daemon, tmp_path):
    """Everything the daemon does, where a system call that the unit does not allow kills it: ask,
    teach, train, import, roll back, export, erase, back up, reload, stop."""
    try:
        load = filter_of(allowed_calls(UNIT) | AS_ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SKIPPED: no filter can be made here: {error}")
    daemon = make_daemon(preexec=load, env={"OMP_NUM_THREADS": "2"}, args=["--lanes", "2"]).start()
    assert "Seccomp:\t2" in (Path("/proc") / str(daemon.pid) / "status").read_text()
    daemon.teach([(f"text {i} of {'xy'[i % 2]}", "xy"[i % 2]) for i in range(80)])
    assert daemon.ask("text 4 of x")["results"][0]["label"] == "x"
    finish(daemon, "runs", {"strategy": "joint", "epochs": 2, "force": True})
    other = shutil.copytree(TINY, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-2] ^= 7
    (other / "model.safetensors").write_bytes(weights)
    finish(daemon, "import", {"folder": str(other), "force": True})
    daemon.post("/v1/models/default/rollback", {"encoder": 0}, expect=None)
    for path in ("/metrics", "/health/ready", "/v1/info", "/v1/models/default/evaluation"):
        daemon.call("GET", path, expect=200)
    daemon.call("POST", "/v1/erase", {"text": "text 4 of x"})
    ctl = os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl")
    subprocess.run([ctl, "backup", tmp_path / "backup", "--state", daemon.state], check=True,
                   capture_output=True)
    offset = daemon.log.stat().st_size
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_line("at=reload event=done", offset)
    daemon.restart()
    assert daemon.ask("text 6 of x")["results"][0]["label"] == "x"


def finish(daemon, how, settings):
    """A run from its request to its acceptance."""
    run = daemon.post(f"/v1/models/default/{how}", settings, expect=202)["run"]
    while (said := daemon.get(f"/v1/runs/{run}"))["state"] in ("queued", "running"):
        assert daemon.process.poll() is None, "killed"
    assert said["state"] == "accepted", said


def test_a_call_that_is_not_allowed_kills(make_daemon):
    """The harness of the test above does see one."""
    try:
        load = filter_of((allowed_calls(UNIT) | AS_ROOT) - {"epoll_wait", "epoll_pwait"})
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SKIPPED: no filter can be made here: {error}")
    daemon = make_daemon(preexec=load)
    daemon.start_unready()
    assert daemon.process.wait(60) == -signal.SIGSYS
    daemon.forget()
