"""kill -9 in the middle of a backup, a restore and a repair, again and again.

A backup that was killed leaves the older one whole, or is whole itself; the next one goes through. A
restore that was killed leaves no database or all of it. The daemon beside them notices nothing.

LEARND_BACKUP_KILLS=100 for the long run; LEARND_SEED repeats one.
"""
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from learnd_process import Daemon  # noqa: E402
from state_folder import LESSONS, ctl, files, learnctl, scores  # noqa: E402

KILLS = int(os.environ.get("LEARND_BACKUP_KILLS", "20"))
SEED = int(os.environ.get("LEARND_SEED", str(random.SystemRandom().randrange(1 << 32))))


def duration(*args):
    started = time.monotonic()
    ctl(*args)
    return time.monotonic() - started


def killed(dice, seconds, *args):
    """True: it was at work still."""
    process = subprocess.Popen([learnctl(), *map(str, args)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        process.wait(dice.random() * seconds)
        assert process.returncode == 0
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def is_whole(backup):
    return subprocess.run(["sha256sum", "--quiet", "-c", "MANIFEST"], cwd=backup,
                          check=False).returncode == 0


def seq_of(folder):
    with sqlite3.connect(f"file:{folder / 'learnd.db'}?mode=ro", uri=True) as db:
        seq = db.execute("SELECT max(seq) FROM event").fetchone()[0]
    db.close()
    return seq


def test_kills(tmp_path):
    dice = random.Random(SEED)
    print(f"LEARND_SEED={SEED}")
    daemon = Daemon(tmp_path / "state", tmp_path / "log").start()
    backup, again = tmp_path / "b", tmp_path / "again"
    hits = {"backup": 0, "restore": 0}
    try:
        daemon.teach(LESSONS)
        daemon.teach([(f"{i} " + "word " * 200, "ab"[i % 2]) for i in range(500)])
        daemon.settle()
        seconds = duration("backup", backup, "--state", daemon.state) * 1.2
        for life in range(KILLS):
            old = seq_of(backup)
            new = daemon.teach([(f"life {life}", "card")])["accepted"][0]["seq"]
            hits["backup"] += killed(dice, seconds, "backup", backup, "--state", daemon.state)
            assert is_whole(backup)
            assert seq_of(backup) in (old, new)
            if life % 4 == 0:
                ctl("backup", backup, "--state", daemon.state)
                assert seq_of(backup) == new
                assert not (tmp_path / "b.partial").exists()
        ctl("backup", backup, "--state", daemon.state)
        before = scores(daemon.settle())
        seconds = duration("restore", backup, "--state", again) * 1.2
        for _ in range(KILLS):
            shutil.rmtree(again)
            hits["restore"] += killed(dice, seconds, "restore", backup, "--state", again)
            if not (again / "learnd.db").exists():
                ctl("restore", backup, "--state", again)  # clears what is there, and goes through
            names = [f for f in files(again) if not f.startswith("restoring/")]
            assert names == [f for f in files(backup) if f not in ("MANIFEST", "BACKUP")]
            for name in names:
                assert (again / name).read_bytes() == (backup / name).read_bytes()
        print(hits)
        assert KILLS < 10 or min(hits.values()) > 0, f"nothing was killed at work: {hits}"
        ctl("doctor", "--state", again, "--deep", "--repair")
    finally:
        daemon.stop()
    restored = Daemon(again, tmp_path / "log2").start()
    try:
        assert scores(restored.settle()) == before
    finally:
        restored.stop()
