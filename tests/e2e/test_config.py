"""Settings that are wrong, would lose what was taught, or are read again: what is said then."""
import os
import shutil
import signal
import subprocess

import pytest

from learnd_process import ROOT, TINY, Daemon, environment, run

START, USAGE = 1, 2  # exit statuses


def check(*args, **more):
    """--check-config: (exit status, its last line)."""
    done = run("--check-config", "--encoder", TINY, *args, **more)
    assert "Sanitizer" not in done.stderr
    said = (done.stderr or done.stdout).strip().splitlines()
    return done.returncode, said[-1]


def refused(words, *args):
    """Both --check-config and a start say this; nothing is written by either."""
    status, said = check(*args)
    assert status == USAGE and all(w in said for w in words), said
    done = run("--encoder", TINY, "--listen", "127.0.0.1:0", *args)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode in (START, USAGE) and all(w in said for w in words), said


# ---- where a wrong value stands

@pytest.mark.parametrize("line, words", [
    ("lane = 3", ["line 2", "unknown setting lane (did you mean lanes?)"]),
    ("drain_grace = 3", ["line 2", "did you mean drain-grace?"]),
    ("lanes = 65", ["line 2", "lanes must be a whole number from 1 to 64"]),
    ("drain-grace = 3601", ["line 2", "drain-grace must be a whole number from 0 to 3600"]),
    ("max-tokens = 7", ["line 2", "max-tokens must be a whole number from 8 to 512"]),
    ("train-window = 25:00-01:00", ["line 2", "train-window must be hours of the day"]),
    ("log-level = loud", ["line 2", "log-level must be debug, info, warn or error"]),
    ("loops = 1", ["line 2", "loops stands in line 1 already"]),
])
def test_a_wrong_line(tmp_path, line, words):
    path = tmp_path / "learnd.conf"
    path.write_text(f"loops = 1\n{line}\n")
    refused([str(path), *words], "--config", path, "--state", tmp_path / "state")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("variable, value, words", [
    ("LEARND_LANES", "0", ["environment, LEARND_LANES: lanes must be a whole number from 1 to 64"]),
    ("LEARND_DRAIN_GRACE", "-1", ["LEARND_DRAIN_GRACE: drain-grace must be", "from 0 to 3600"]),
    ("LEARND_TRAIN", "never", ["LEARND_TRAIN: train must be auto or manual"]),
])
def test_a_wrong_variable(variable, value, words):
    status, said = check(env={variable: value})
    assert status == USAGE and all(w in said for w in words), said


def test_the_shipped_file(tmp_path):
    """deploy/learnd.conf is right as it is, and with every example in it put in force."""
    shipped = (ROOT / "deploy" / "learnd.conf").read_text()
    (tmp_path / "learnd.conf").write_text(shipped)
    state = ("--state", tmp_path / "state")
    assert check("--config", tmp_path / "learnd.conf", *state)[0] == 0
    lines = [line[2:] if line.startswith("# ") and line.split()[2:3] == ["="] else line
             for line in shipped.splitlines()]
    inside = [line for line in lines if line and not line.startswith("#")]
    (tmp_path / "learnd.conf").write_text("\n".join(inside) + "\n")
    status, said = check("--config", tmp_path / "learnd.conf", *state)
    assert status == 0, said
    words = run("--help").stdout
    for line in inside:
        assert f"--{line.split()[0]} " in words, line


# ---- --check-config

def test_check_config_would_start(tmp_path):
    state = tmp_path / "new" / "state"
    status, said = check("--state", state)
    assert (status, said) == (0, "learnd: the configuration is good")
    assert not state.parent.exists(), "it makes nothing"
    for args, words in [
            (["--encoder", "/nowhere"], ["/nowhere/config.json", "No such file"]),
            (["--listen", "example.org:80"], ["listen example.org:80", "not an IP address"]),
            (["--listen", "unix:" + "x" * 200], ["path is too long"]),
            (["--state", TINY / "config.json" / "x"], ["config.json", "Not a directory"]),
            (["--state", TINY / "config.json"], ["config.json", "Not a directory"])]:
        status, said = check("--state", state, *args)
        assert status == USAGE and all(w in said for w in words), (args, said)


def test_check_config_beside_a_daemon(daemon):
    """It locks and changes nothing, and sees that the folder belongs to the encoder."""
    daemon.teach([("a b", "x")])
    assert check("--state", daemon.state)[0] == 0
    assert daemon.ask("a b")["results"][0]["label"] == "x"


# ---- what would lose what was taught

@pytest.fixture
def taught(tmp_path):
    """A state folder with a head in it, its daemon stopped."""
    daemon = Daemon(tmp_path / "state", tmp_path / "log").start()
    daemon.teach([(f"{i} a b", "xy"[i % 2]) for i in range(8)])
    daemon.stop()
    return daemon


def test_another_encoder(taught, tmp_path):
    other = shutil.copytree(TINY, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    refused([str(taught.state), "taught with another encoder"], "--state", taught.state,
            "--encoder", other)
    taught.start()  # as it was
    assert taught.ask("2 a b")["results"][0]["label"] == "x"
    taught.stop()


@pytest.mark.parametrize("left", [b"", None])
def test_a_journal_that_is_gone(taught, left):
    """heads/ without the database they belong to: a new journal would orphan them, and be wrong."""
    for path in taught.state.glob("learnd.db*"):
        path.unlink()
    if left is not None:
        (taught.state / "learnd.db").write_bytes(left)
    before = sorted(p.name for p in (taught.state / "heads").iterdir())
    assert before
    refused([str(taught.state), "there are heads but no learnd.db", "backup"], "--state",
            taught.state)
    assert sorted(p.name for p in (taught.state / "heads").iterdir()) == before


def test_a_folder_of_something_else(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    refused([str(folder), "no state folder", "letter.txt"], "--state", folder)
    assert [p.name for p in folder.iterdir()] == ["letter.txt"]
    (folder / "letter.txt").unlink()
    (folder / "lost+found").mkdir()  # of a disk of its own
    assert check("--state", folder)[0] == 0


def test_the_encoder_inside_the_state_folder(taught):
    shutil.copytree(TINY, taught.state / "encoders" / "7")
    refused(["inside the state folder", "copy it elsewhere"], "--state", taught.state, "--encoder",
            taught.state / "encoders" / "7")


def test_state_in_memory_is_told(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], stderr=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"SKIPPED: no mount is permitted here: {done.stderr.strip()}")
    try:
        done = run("--check-config", "--encoder", TINY, "--state", folder / "state")
        assert done.returncode == 0 and "note: " in done.stdout and "in memory" in done.stdout
        daemon = Daemon(folder / "state", tmp_path / "log").start()
        daemon.stop()
        assert "level=warn at=start event=note" in daemon.text()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# ---- read again

@pytest.fixture
def configured(make_daemon, tmp_path):
    """A daemon with a file; set(text) writes the file and sends SIGHUP."""
    path = tmp_path / "learnd.conf"
    path.write_text("lanes = 1\n")
    daemon = make_daemon(args=["--config", path],
                         env={"LEARND_TRAIN": "", **environment_of_train()}).start()

    def set_to(text):
        new = tmp_path / "new.conf"
        new.write_text(text)
        os.replace(new, path)  # whole: a reload may be reading
        offset = daemon.log.stat().st_size
        daemon.process.send_signal(signal.SIGHUP)
        return offset
    daemon.set_to = set_to
    return daemon


def environment_of_train():
    return {k: "" for k in environment() if k.startswith("LEARND_") and k != "LEARND_TRAIN"}


@pytest.mark.sanitizer
def test_reload(configured):
    d = configured
    offset = d.set_to("lanes = 1\n")
    d.wait_line("event=done changed=0 restart_needed=0", offset)
    offset = d.set_to("lanes = 2\nmax-tokens = 16\ntrain = manual\ntrain-window = 01:00-02:00\n"
                      "train-hours = 5\ndrain-grace = 1\n")
    d.wait_line("event=done changed=4 restart_needed=2", offset)
    said = d.text()
    for name in ("lanes", "max-tokens"):
        assert f"event=restart_needed setting={name} " in said
    for name in ("train", "train-window", "train-hours", "drain-grace"):
        assert f"event=changed setting={name}\n" in said
    info = d.get("/v1/info")
    assert info["lanes"] == 1 and info["encoder"]["tokens_max"] != 16
    # What waits for a restart is named each time; what was taken over is not.
    offset = d.set_to("lanes = 2\ntrain = manual\ntrain-window = 01:00-02:00\ntrain-hours = 5\n")
    d.wait_line("event=changed setting=drain-grace", offset)
    d.wait_line("event=done changed=1 restart_needed=1", offset)


@pytest.mark.parametrize("text, words", [
    ("lanes = 1\nlog-levl = error\n", "line 2: unknown setting log-levl (did you mean log-level?)"),
    ("log-level = error\nlanes = 1000\n", "line 2: lanes must be a whole number from 1 to 64"),
    (None, "No such file"),
])
def test_a_bad_file_changes_nothing(configured, text, words):
    d = configured
    if text is None:
        path = d.args[1]
        os.rename(path, f"{path}.gone")
        offset = d.log.stat().st_size
        d.process.send_signal(signal.SIGHUP)
    else:
        offset = d.set_to(text)
    line = d.wait_line(r"level=error at=reload event=refused why=\"([^\"]*)\"", offset)
    assert words in line.group(1)
    assert d.ask("it answers")["results"]
    if text is not None:  # and what was good in it has not come into force either: this is told
        offset = d.set_to("lanes = 1\n")
        d.wait_line("level=info at=reload event=done changed=0", offset)


def test_log_level_is_in_force_at_once(configured):
    d = configured
    offset = d.set_to("lanes = 1\nlog-level = error\n")
    d.wait_line("event=changed setting=log-level", offset)
    offset = d.set_to("lanes = 2\nlog-level = error\n")  # a warning, which is not written now
    d.set_to("lnes = 2\n")
    d.wait_line("level=error at=reload event=refused", offset)
    with open(d.log, encoding="utf-8") as log:
        log.seek(offset)
        assert "restart_needed" not in log.read()


def test_log_requests_is_in_force_at_once(configured):
    d = configured
    offset = d.set_to("lanes = 1\nlog-requests = all\n")
    d.wait_line("event=done changed=1", offset)
    d.get("/v1/info")
    d.wait_line("event=request method=GET route=/v1/info status=200", offset)
    offset = d.set_to("lanes = 1\nlog-requests = none\n")
    d.wait_line("event=done changed=1", offset)
    d.get("/v1/info")
    d.stop()
    assert "event=request" not in d.text()[offset:]


def test_training_begins_when_it_may(configured):
    """Enough is taught for a run, but train = manual; then SIGHUP says auto, and one begins."""
    d = configured
    offset = d.set_to("lanes = 1\ntrain = manual\n")
    d.wait_line("event=done", offset)
    d.teach([(f"{i} {'ab'[i % 2]} text", "xy"[i % 2]) for i in range(400)])
    assert d.get("/v1/runs")["runs"] == []
    offset = d.set_to("lanes = 1\ntrain = auto\n")
    d.wait_line("at=trainer event=due model=default", offset)
