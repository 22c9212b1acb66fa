"""Starting: what a person reads when it does not work, and that a refused start harms nothing."""
import os
import resource
import shutil
import socket
import struct
import subprocess

import pytest

from learnd_process import TINY, Daemon, binary, environment, run

START, USAGE = 1, 2  # exit statuses


def refused(status, *args, **more):
    """A start that must fail; what it says on stderr, which is for people."""
    done = run(*args, **more)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("learnd: "), done.stderr
    return last


def refused_start(tmp_path, *args, encoder=TINY, state=None, **more):
    return refused(START, "--state", state or tmp_path / "state", "--encoder", encoder,
                   "--listen", "127.0.0.1:0", *args, **more)


# ---- settings

@pytest.mark.parametrize("args, words", [
    (["--lnes", "3"], ["unknown flag --lnes", "--help"]),
    (["--lanes"], ["--lanes needs a value"]),
    (["--lanes", "0"], ["--lanes", "whole number from 1 to"]),
    (["--lanes", "two"], ["--lanes", "whole number from 1 to"]),
    (["--max-tokens", "4"], ["--max-tokens", "whole number from 8 to"]),
    (["--precision", "fp8"], ["--precision", "bf16 or fp32"]),
    (["--device", "tpu"], ["--device", "auto, cpu, cuda:N"]),
    (["--train-yield-p99-ms", "-1"], ["--train-yield-p99-ms", "whole number from 0 to"]),
    (["--log-level", "loud"], ["--log-level", "debug, info, warn or error"]),
    (["--state", ""], ["--state", "path"]),
    (["--config", "/nowhere/learnd.conf"], ["/nowhere/learnd.conf", "No such file"]),
    (["stray"], ["unknown flag stray"]),
])
def test_bad_flags(args, words):
    said = refused(USAGE, *args)
    assert all(w in said for w in words), said


@pytest.mark.parametrize("text, words", [
    ("lanes = 1\nlnes = 3\n", ["line 2", "unknown setting lnes"]),
    ("state\n", ["line 1", "name = value"]),
    ("# fine\n\nlanes = many\n", ["line 3", "lanes", "whole number"]),
    ("config = other\n", ["line 1", "unknown setting config"]),
    ("state = " + "x" * 3000 + "\n", ["line 1", "too long"]),
])
def test_bad_config_files(tmp_path, text, words):
    path = tmp_path / "learnd.conf"
    path.write_text(text)
    said = refused(USAGE, "--config", path, "--check-config")
    assert str(path) in said and all(w in said for w in words), said


def test_check_config(tmp_path):
    path = tmp_path / "learnd.conf"
    path.write_text(f"# a comment\nstate = {tmp_path}/state\n\n  lanes=2  \nlisten = 127.0.0.1:1\n"
                    "listen = [::1]:2\nprecision = fp32\n")
    done = run("--config", path, "--check-config", "--encoder", TINY)
    assert done.returncode == 0 and "good" in done.stdout and done.stderr == ""
    assert not (tmp_path / "state").exists()


def test_bad_environment():
    said = refused(USAGE, "--check-config", env={"LEARND_MAX_TOKENS": "0"})
    assert "environment" in said and "max-tokens" in said


def test_flag_beats_environment_beats_file(tmp_path):
    path = tmp_path / "learnd.conf"
    path.write_text(f"state = {tmp_path}/file\nlanes = 1\nmax-tokens = 16\n")
    daemon = Daemon(tmp_path / "flag", tmp_path / "log", args=["--config", path],
                    env={"LEARND_STATE": f"{tmp_path}/environment", "LEARND_LANES": "2"}).start()
    try:
        info = daemon.get("/v1/info")
        assert (info["lanes"], info["encoder"]["tokens_max"]) == (2, 16)
        assert (tmp_path / "flag").exists() and not (tmp_path / "environment").exists()
        daemon.stop()
    finally:
        daemon.kill9()


def test_help_and_version():
    assert run("--version").stdout.startswith("learnd ")
    text = run("--help").stdout
    for flag in ("--config", "--state", "--listen", "--encoder", "--device", "--precision",
                 "--lanes", "--max-tokens", "--check-config", "--train-yield-p99-ms"):
        assert flag in text


# ---- listening

def test_port_in_use(tmp_path, daemon):
    said = refused_start(tmp_path, "--listen", f"127.0.0.1:{daemon.port}",
                         state=tmp_path / "other")
    assert f"127.0.0.1:{daemon.port}" in said and "another program has this port" in said
    assert daemon.get("/health/ready")["status"] == "ready"


@pytest.mark.parametrize("address, words", [
    ("127.0.0.1", ["ADDR:PORT"]),
    ("127.0.0.1:port", ["ADDR:PORT"]),
    ("127.0.0.1:65536", ["ADDR:PORT"]),
    ("example.org:80", ["not an IP address"]),
    ("0.0.0.0:0", ["loopback only"]),
    ("[::]:0", ["loopback only"]),
    ("192.0.2.1:0", ["loopback only"]),
    ("unix:" + "x" * 200, ["too long"]),
    ("unix:/nowhere/at/all", ["/nowhere/at/all"]),
])
def test_bad_addresses(tmp_path, address, words):
    said = refused_start(tmp_path, "--listen", address)
    assert all(w in said for w in words), said


@pytest.mark.sanitizer
def test_unix_socket(make_daemon, tmp_path):
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # as a crash leaves it
    daemon = make_daemon(args=["--listen", f"unix:{path}"]).start()
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(b"GET /health/live HTTP/1.1\r\nHost: anything\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    said = refused_start(tmp_path, "--listen", f"unix:{path}", state=tmp_path / "other")
    assert "another program answers there" in said
    daemon.stop()
    assert not path.exists()


@pytest.mark.sanitizer
def test_many_loops(make_daemon):
    daemon = make_daemon(args=["--loops", "3"]).start()
    for _ in range(30):
        daemon.session.close()  # another connection, perhaps of another loop
        daemon.ask("hello")
    assert daemon.get("/v1/info")["loops"] == 3


# ---- the state folder

def test_second_daemon_on_the_state_folder(tmp_path, daemon):
    daemon.teach([("a b", "x")])
    said = refused_start(tmp_path, state=daemon.state)
    assert "another learnd is using the state folder" in said and str(daemon.state) in said
    assert daemon.ask("a b")["results"][0]["label"] == "x"


def test_state_folder_cannot_be_made(tmp_path):
    said = refused_start(tmp_path, state="/proc/nowhere/state")
    assert "/proc/nowhere" in said and "No such file" in said
    file = tmp_path / "file"
    file.write_text("not a folder")
    said = refused_start(tmp_path, state=file)
    assert str(file) in said and "Not a directory" in said


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of its own; skips where that is not permitted."""
    mounted = []

    def mount(size, options=""):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs",
                               folder], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"SKIPPED: no mount is permitted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_read_only_state_folder(tmp_path, small_disk):
    disk = small_disk("64m")
    daemon = Daemon(disk / "state", tmp_path / "log", args=["--disk-free-min", "0"]).start()
    daemon.teach([("a b", "x"), ("c d", "y")])
    before = daemon.ask("a b", top_k=2)
    daemon.stop()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    said = refused_start(tmp_path, state=disk / "state")
    assert "read-only" in said.lower() or "readonly" in said.lower(), said
    assert str(disk / "state") in said, said
    said = refused_start(tmp_path, state=disk / "new")
    assert "Read-only file system" in said and str(disk / "new") in said
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    daemon.start()
    after = daemon.ask("a b", top_k=2)
    daemon.stop()
    assert after["version"] == before["version"]
    assert after["results"][0]["labels"] == before["results"][0]["labels"]


def test_no_permission(tmp_path):
    """As somebody who may not write there."""
    if os.geteuid() != 0:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        said = refused_start(tmp_path, state=folder / "state")
    else:  # root may write anywhere, so the daemon is somebody else
        home = tmp_path / "home"
        home.mkdir()
        for path in (binary(), ):
            shutil.copy(path, home / "learnd")
        shutil.copytree(TINY, home / "encoder")
        done = subprocess.run(
            ["unshare", "--map-user=65534", "--map-group=65534", "-U", "true"], check=False,
            stderr=subprocess.DEVNULL)
        if done.returncode != 0:
            pytest.skip("SKIPPED: no user name space is permitted here")
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        done = subprocess.run(
            ["unshare", "-U", "--map-user=65534", "--map-group=65534", home / "learnd", "--state",
             locked / "state", "--encoder", home / "encoder", "--listen", "127.0.0.1:0"],
            env=environment(), stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        assert done.returncode == START, done.stderr
        said = done.stderr.strip().splitlines()[-1]
    assert "Permission denied" in said and "locked/state" in said, said


def test_full_disk_at_start(tmp_path, small_disk):
    disk = small_disk("64k")
    said = refused_start(tmp_path, state=disk / "state")
    assert "full" in said or "No space" in said, said


def limit_files(size):
    """For preexec: no file may grow beyond size. SQLite has no word of its own for it, but nobody
    may die of it."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(
            resource.RLIMIT_FSIZE)[1]))
    return limit


def lift_limit(daemon):
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, ) * 2)


@pytest.mark.parametrize("disk, refusal", [("file-limit", (503, "storage_failed")),
                                           ("tmpfs", (507, "disk_full"))])
@pytest.mark.sanitizer
def test_full_disk_while_serving(tmp_path, small_disk, disk, refusal):
    """Corrections are refused by name, questions are answered, health says so; with room again all
    goes on."""
    if disk == "tmpfs":
        folder = small_disk("3m")
        daemon = Daemon(folder / "state", tmp_path / "log", args=["--disk-free-min", "0"])
    else:
        folder = tmp_path
        daemon = Daemon(folder / "state", tmp_path / "log", preexec=limit_files(600 << 10))
    daemon.start()
    try:
        kept = daemon.teach([("a b", "x"), ("c d", "y")])
        before = daemon.ask("a b", top_k=2)
        if disk == "tmpfs":
            fill(folder / "filler")
        answer = None
        for i in range(200):
            answer = daemon.call("POST", "/v1/feedback", {
                "items": [{"text": f"{i} {j} " + "x" * 500, "label": "x"} for j in range(50)]})
            if answer.status_code != 202:
                break
        assert (answer.status_code, answer.json()["code"]) == refusal
        last = daemon.get("/v1/models/default")
        for _ in range(200):  # a little may still fit, and then ready is the truth
            ready = daemon.call("GET", "/health/ready").json()
            if ready["status"] != "ready":
                break
        assert ready["status"] == "unready"
        assert {c["name"]: c["ok"] for c in ready["checks"]} == \
            {"journal": False, "forward": True, "device": True, "learner": True, "disk": True}
        daemon.get("/health/live")
        for i in range(200):  # the same for a small row
            made = daemon.call("POST", "/v1/models", {"name": f"more{i}"})
            if made.status_code != 201:
                break
        assert (made.status_code, made.json()["code"]) == refusal
        assert daemon.problem("DELETE", f"/v1/examples/{kept['accepted'][0]['example']}")[:2] == \
            refusal
        assert daemon.ask("a b", top_k=2)["results"][0]["label"] == \
            before["results"][0]["label"], "it serves on"
        assert daemon.get("/v1/models/default")["examples"] == last["examples"]
        if disk == "tmpfs":
            (folder / "filler").unlink()
        else:
            lift_limit(daemon)
        assert daemon.get("/health/ready")["status"] == "ready"
        daemon.teach([("e f", "z")])
        assert daemon.get("/v1/models/default")["examples"] == last["examples"] + 1
        daemon.preexec = None
        daemon.restart()
        rows = daemon.get("/v1/models/default/examples?limit=1000")["examples"]
        assert {"a b", "c d", "e f"} <= {r["text"] for r in rows}
        daemon.stop()
    finally:
        daemon.kill9()


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass


def test_a_damaged_database(tmp_path):
    daemon = Daemon(tmp_path / "state", tmp_path / "log").start()
    daemon.teach([("a b", "x")])
    daemon.stop()
    (tmp_path / "state" / "learnd.db").write_bytes(b"this is no database " * 1000)
    said = refused_start(tmp_path)
    assert "not a database" in said and str(tmp_path / "state") in said, said


@pytest.mark.sanitizer
def test_damaged_heads_are_rebuilt(make_daemon):
    """A head's image that was cut or changed is noticed; the journal has everything."""
    daemon = make_daemon().start()
    daemon.teach([(f"{i} {i * i}", f"l{i % 3}") for i in range(100)])
    before = daemon.settle().ask("4 16", top_k=3)
    for damage in (lambda b: b[:len(b) // 2], lambda b: b[:-9] + b"\x7f" + b[-8:], lambda b: b""):
        daemon.stop()
        files = list((daemon.state / "heads").iterdir())
        assert files
        for f in files:
            f.write_bytes(damage(f.read_bytes()))
        daemon.start()
        after = daemon.settle().ask("4 16", top_k=3)
        assert after["version"] == before["version"]
        for a, b in zip(before["results"][0]["labels"], after["results"][0]["labels"], strict=True):
            assert a["label"] == b["label"] and abs(a["score"] - b["score"]) < 1e-6
        daemon.teach([("one more", "l0")])
        before = daemon.settle().ask("4 16", top_k=3)


# ---- the encoder

@pytest.fixture
def encoder(tmp_path):
    """A copy of the tiny encoder to damage."""
    return shutil.copytree(TINY, tmp_path / "encoder")


def test_no_encoder(tmp_path):
    done = run("--state", tmp_path / "state", "--encoder", "/nowhere", "--listen", "127.0.0.1:0")
    assert done.returncode == START
    assert "/nowhere" in done.stderr and "deploy/model.sh" in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.sanitizer
def test_truncated_weights(tmp_path, encoder):
    weights = encoder / "model.safetensors"
    whole = weights.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for size in (0, 4, 8, 100, 8 + header, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        said = refused_start(tmp_path, encoder=encoder)
        assert "model.safetensors" in said, said


def test_damaged_weights_name_the_tensor(tmp_path, encoder):
    weights = encoder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole.replace(b"self.query.weight", b"self.qwery.weight", 1))
    said = refused_start(tmp_path, encoder=encoder)
    assert "attention.self.query.weight" in said, said


def test_wrong_vocabulary(tmp_path, encoder):
    (encoder / "tokenizer.json").unlink()
    vocab = encoder / "vocab.txt"
    vocab.write_text(vocab.read_text() + "\n".join(f"word{i}" for i in range(100)) + "\n")
    said = refused_start(tmp_path, encoder=encoder)
    assert "ids" in said and "do not belong together" in said and str(encoder) in said
    vocab.write_text("just\nwords\n")
    said = refused_start(tmp_path, encoder=encoder)
    assert "[UNK]" in said or "[CLS]" in said or "special" in said, said


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_or_broken_files(tmp_path, encoder, name):
    (encoder / name).write_text("{ not json")
    assert name in refused_start(tmp_path, encoder=encoder)
    (encoder / name).unlink()
    if name == "tokenizer.json":
        (encoder / "vocab.txt").unlink()
        assert "vocab.txt" in refused_start(tmp_path, encoder=encoder)
    else:
        assert name in refused_start(tmp_path, encoder=encoder)


def test_another_encoder_than_it_was_taught_with(tmp_path):
    daemon = Daemon(tmp_path / "state", tmp_path / "log").start()
    daemon.teach([("a b", "x")])
    daemon.stop()
    said = refused_start(tmp_path, encoder=TINY.parent / "tiny-encoder-cls-f16")
    assert "taught with another encoder" in said and str(tmp_path / "state") in said
    daemon.start()
    assert daemon.ask("a b")["results"][0]["label"] == "x"
    daemon.stop()
