"""What is cleared away, and what never is: encoders beyond encoders-kept, runs older than
retention-days-runs."""
import re
import sqlite3
import time

from state_folder import LESSONS, ctl


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def test_old_encoders_and_runs(make_daemon):
    d = make_daemon(args=["--encoders-kept", "1"]).start()
    d.teach(LESSONS)
    d.teach([(f"card number {i}", "card") for i in range(20)] +
            [(f"purse number {i}", "lost") for i in range(20)])
    for seed in 1, 2, 3:
        ctl("train", "steps_max=3", "--seed", seed, "--force", "--watch", daemon=d)
    folders = d.state / "encoders"
    until(lambda: not (folders / "1").exists())
    assert (folders / "2").exists() and (folders / "3").exists()
    for _ in range(3):
        ctl("train", "--strategy", "head", "--force", "--watch", daemon=d)
    ids = [r["run"] for r in d.get("/v1/runs")["runs"]]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]
    d.stop()
    with sqlite3.connect(d.state / "learnd.db") as db:
        old = int((time.time() - 3 * 86400) * 1e6)
        db.execute("UPDATE run SET ended_us = ?", (old,))
        curves = db.execute("SELECT count(*) FROM run_metric WHERE run IN (1, 4, 5)").fetchone()[0]
    db.close()
    d.args = ["--encoders-kept", "1", "--retention-days-runs", "2"]
    d.start()
    # 1: its encoder is gone. 2 and 3: theirs are held and live. 6: the last, and the last accepted
    until(lambda: sorted(r["run"] for r in d.get("/v1/runs")["runs"]) == [2, 3, 6])
    told = re.search(r"event=retention (.*)", d.text()).group(1)
    assert told == f"runs=3 metrics={curves} encoders=0"
    assert d.problem("GET", "/v1/runs/1")[0] == 404
    d.restart()
    d.teach([("one more", "card")])
    assert d.text().count("event=retention") == 1  # nothing to tell is not told
    ctl("doctor", "--deep", "--state", d.state)
