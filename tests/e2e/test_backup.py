"""learnctl backup and restore: beside a daemon at work, whole or not there, and the same answers bit
for bit afterwards."""
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import threading

import pytest

from learnd_process import Daemon
from state_folder import FAILED, LESSONS, OK, USAGE, copy_of, ctl, files, learnctl, scores


@pytest.fixture
def taught(make_daemon):
    d = make_daemon().start()
    d.teach(LESSONS)
    d.settle()
    return d


def restored(make_daemon, backup, name="r"):
    d = make_daemon(name)
    ctl("restore", backup, "--state", d.state)
    return d


@pytest.mark.sanitizer
def test_a_restored_daemon_answers_the_same_bits(taught, make_daemon, tmp_path):
    taught.post("/v1/models", {"name": "many", "kind": "multi"}, expect=201)
    taught.teach([{"text": "rain and sun", "labels": ["wet", "dry"], "annotator": "ann"},
                  {"text": "nothing at all", "labels": []}], model="many")
    taught.settle("many")
    before = scores(taught), scores(taught, "many")
    versions = taught.get("/v1/models/default/versions?limit=100")
    out, _ = ctl("backup", tmp_path / "b", "--state", taught.state)
    assert "2 models" in out
    assert subprocess.run(["sha256sum", "--quiet", "-c", "MANIFEST"], cwd=tmp_path / "b",
                          check=False).returncode == 0
    taught.stop()
    d = restored(make_daemon, tmp_path / "b").start()
    d.settle()
    d.settle("many")
    assert (scores(d), scores(d, "many")) == before
    assert d.get("/v1/models/default/versions?limit=100") == versions
    d.teach([("where did my card go", "card")])  # it goes on from there


def test_beside_a_daemon_at_work(taught, make_daemon, tmp_path):
    """Every correction answered before the backup began is in it; those of a batch wholly or not."""
    done, acknowledged = threading.Event(), []

    def work():
        i = 0
        while not done.is_set():
            answer = taught.teach([{"text": f"text {i} {k}", "label": "ab"[k % 2]}
                                   for k in range(5)], wait="durable")
            acknowledged.append(max(a["seq"] for a in answer["accepted"]))
            taught.ask("where is my card")
            i += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for i in range(6):
            floor = acknowledged[-1] if acknowledged else 0
            out, _ = ctl("backup", tmp_path / "b", "--state", taught.state, "--json")
            report = json.loads(out)
            assert report["seq"] >= floor and report["replaced"] == (i > 0)
    finally:
        done.set()
        thread.join()
    assert not (tmp_path / "b.partial").exists()
    d = restored(make_daemon, tmp_path / "b").start()
    with sqlite3.connect(tmp_path / "b" / "learnd.db") as db:
        rows = dict(db.execute("SELECT text, status FROM example"))
        last = db.execute("SELECT max(seq) FROM event").fetchone()[0]
    assert last == report["seq"]
    for i in range(len(acknowledged)):
        assert sum(f"text {i} {k}" in rows for k in range(5)) in (0, 5)
    assert d.get("/v1/info")["seq"] == last
    d.settle()


def test_what_was_erased_before_is_not_in_it(taught, tmp_path):
    """Not even in the free pages that an erasure has not scrubbed yet."""
    secret = "my name is Zebulon Quaxley"
    taught.teach([(secret, "lost")])
    taught.restart()  # an image holds it
    ctl("backup", tmp_path / "before", "--state", taught.state)
    example = taught.get("/v1/models/default/examples?q=Zebulon")["examples"][0]["example"]
    taught.delete(f"/v1/examples/{example}")
    ctl("backup", tmp_path / "after", "--state", taught.state)
    for name, held in ("before", True), ("after", False):
        found = [f for f in files(tmp_path / name)
                 if secret.encode() in (tmp_path / name / f).read_bytes()]
        assert bool(found) == held, (name, found)


def test_encoders_travel(taught, make_daemon, tmp_path):
    export = tmp_path / "export"
    export.mkdir()
    taught.teach([(f"card number {i}", "card") for i in range(20)] +
                 [(f"purse number {i}", "lost") for i in range(20)])
    ctl("train", "steps_max=3", "--force", "--watch", daemon=taught)
    taught.settle()
    assert taught.get("/v1/models/default")["version"].startswith("1.")
    before = scores(taught)
    ctl("backup", tmp_path / "b", "--state", taught.state)
    ctl("backup", tmp_path / "c", "--state", taught.state, "--copy")
    assert files(tmp_path / "b") == files(tmp_path / "c")
    weights = "encoders/1/model.safetensors"
    assert (tmp_path / "b" / weights).stat().st_ino == (taught.state / weights).stat().st_ino
    assert (tmp_path / "c" / weights).stat().st_ino != (taught.state / weights).stat().st_ino
    taught.stop()
    shutil.rmtree(taught.state)
    d = restored(make_daemon, tmp_path / "b").start()
    d.settle()
    assert scores(d) == before
    assert (d.state / weights).stat().st_ino != (tmp_path / "b" / weights).stat().st_ino


def test_a_full_disk_leaves_the_old_backup(taught, tmp_path):
    ctl("backup", tmp_path / "b", "--state", taught.state)
    old = {f: (tmp_path / "b" / f).read_bytes() for f in files(tmp_path / "b")}
    taught.teach([(f"{i} " + "long " * 2000, "long") for i in range(40)])

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    _, err = ctl("backup", tmp_path / "b", "--state", taught.state, code=FAILED,
                 preexec=small_files)
    assert str(taught.state) in err
    assert {f: (tmp_path / "b" / f).read_bytes() for f in files(tmp_path / "b")} == old
    assert os.listdir(tmp_path / "b") and not (tmp_path / "b.partial").exists()


def test_what_backup_refuses(taught, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("mine")
    for dest in "mine", "mine/precious":
        _, err = ctl("backup", tmp_path / dest, "--state", taught.state, code=USAGE)
        assert "is no backup" in err
    assert (tmp_path / "mine" / "precious").read_text() == "mine"
    _, err = ctl("backup", tmp_path / "no" / "such", "--state", taught.state, code=USAGE)
    assert "No such file" in err
    _, err = ctl("backup", tmp_path / "b", "--state", tmp_path / "nowhere", code=USAGE)
    assert "nowhere" in err and not (tmp_path / "b").exists()
    for args in (), ("a", "b"):
        _, err = ctl("backup", *args, code=USAGE)
        assert "usage: learnctl backup FOLDER" in err
    taught.stop()
    head = next((taught.state / "heads").iterdir())
    head.write_bytes(head.read_bytes()[:-1] + b"?")
    _, err = ctl("backup", tmp_path / "b", "--state", taught.state, code=FAILED)
    assert head.name in err and "doctor" in err and not (tmp_path / "b").exists()


def test_what_restore_refuses(taught, tmp_path):
    ctl("backup", tmp_path / "b", "--state", taught.state)
    _, err = ctl("restore", tmp_path / "b", "--state", taught.state, code=USAGE)
    assert "learnd is using" in err
    taught.stop()
    _, err = ctl("restore", tmp_path / "b", "--state", taught.state, code=USAGE)
    assert "is not empty" in err
    _, err = ctl("restore", tmp_path, "--state", tmp_path / "new", code=USAGE)
    assert "is no backup" in err
    _, err = ctl("restore", tmp_path / "nowhere", "--state", tmp_path / "new", code=USAGE)
    assert "is no backup" in err
    assert not (tmp_path / "new").exists()
    _, err = ctl("restore", code=USAGE)
    assert "usage: learnctl restore FOLDER" in err


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["database", "head", "missing", "more", "line", "outside",
                                    "link", "newer", "none"])
def test_a_damaged_backup_changes_nothing(damage, taught, tmp_path):
    ctl("backup", tmp_path / "b", "--state", taught.state)
    b, state = tmp_path / "b", tmp_path / "new"
    taught.restart()
    ctl("backup", b, "--state", taught.state)
    head = next((b / "heads").iterdir())
    manifest = (b / "MANIFEST").read_text()
    if damage == "database":
        flip(b / "learnd.db")
    elif damage == "head":
        flip(head)
    elif damage == "missing":
        head.unlink()
    elif damage == "more":
        (b / "heads" / "9-9-9.head").write_text("more")
    elif damage == "line":
        (b / "MANIFEST").write_text(manifest + "nonsense\n")
    elif damage == "outside":
        (b / "MANIFEST").write_text(manifest.replace("  heads/", "  heads/../../"))
    elif damage == "link":
        head.unlink()
        head.symlink_to("/etc/passwd")
    elif damage == "newer":
        with sqlite3.connect(b / "learnd.db") as db:
            db.execute("PRAGMA user_version=1000")
        db.close()
        digest = subprocess.run(["sha256sum", "learnd.db"], cwd=b, capture_output=True, text=True,
                                check=True).stdout
        lines = [digest if line.endswith("  learnd.db") else line + "\n"
                 for line in manifest.splitlines()]
        (b / "MANIFEST").write_text("".join(lines))
    code = OK if damage == "none" else FAILED
    _, err = ctl("restore", b, "--state", state, code=code)
    assert (damage == "none") == (state / "learnd.db").exists(), err
    if damage != "none":
        assert files(state) == [] if state.exists() else True
    if damage == "newer":
        assert "version 1000" in err


def test_the_state_folder_may_be_there_and_empty(taught, tmp_path):
    ctl("backup", tmp_path / "b", "--state", taught.state)
    state = tmp_path / "new"
    state.mkdir(mode=0o750)
    inode = state.stat().st_ino
    ctl("restore", tmp_path / "b", env={"LEARND_STATE": str(state)})
    assert state.stat().st_ino == inode  # it may be a mount: it is filled, not replaced
    assert sorted(os.listdir(state)) == ["encoders", "heads", "learnd.db"]


def test_two_at_once(taught, tmp_path):
    """The second one says so, or comes after; what is there in the end is whole."""
    taught.teach([(f"{i} " + "word " * 500, "long") for i in range(100)])
    both = [subprocess.Popen([learnctl(), "backup", str(tmp_path / "b"), "--state",
                              str(taught.state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True) for _ in range(2)]
    ended = [(p.communicate(timeout=120), p.returncode) for p in both]
    assert OK in [code for _, code in ended], ended
    for (_, err), code in ended:
        assert code == OK or (code == USAGE and ("under way" in err or "partial" in err)), ended
    ctl("restore", tmp_path / "b", "--state", tmp_path / "new")


def test_remains_of_a_killed_restore_are_cleared(taught, tmp_path):
    ctl("backup", tmp_path / "b", "--state", taught.state)
    state = tmp_path / "new"
    (state / "restoring" / "heads").mkdir(parents=True)
    (state / "heads").mkdir()
    (state / "heads" / "half").write_text("half")
    ctl("restore", tmp_path / "b", "--state", state)
    assert sorted(os.listdir(state)) == ["encoders", "heads", "learnd.db"]
    assert not (state / "heads" / "half").exists()
    Daemon(state, tmp_path / "log").start().stop()
    copy_of(state, tmp_path / "again")
    (tmp_path / "again" / "restoring").mkdir()
    _, err = ctl("restore", tmp_path / "b", "--state", tmp_path / "again", code=USAGE)
    assert "learnd.db is there" in err


def test_root_restores_for_the_folders_owner(taught, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: only root gives files away")
    ctl("backup", tmp_path / "b", "--state", taught.state)
    state = tmp_path / "new"
    state.mkdir()
    os.chown(state, 65534, 65534)
    ctl("restore", tmp_path / "b", "--state", state)
    assert {p.stat().st_uid for p in state.rglob("*")} == {65534}
    assert {p.stat().st_mode & 0o077 for p in state.rglob("*")} == {0}
