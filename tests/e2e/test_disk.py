"""Little room on the disk of the state folder: nothing is learned, all else goes on, and it ends by
itself."""
import json
import re
import time

import pytest

from event_stream import EventStream
from learnd_process import Daemon
from state_folder import LESSONS
from test_start import small_disk  # noqa: F401 (a fixture)

MIN, SIZE = 8 << 20, "24m"


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def metric(daemon, name):
    page = daemon.call("GET", "/metrics").text
    return float(re.search(rf"^{name} (\S+)$", page, re.M).group(1))


def disk_check(daemon):
    answer = daemon.call("GET", "/health/ready", expect=200).json()
    return next(c for c in answer["checks"] if c["name"] == "disk")


@pytest.mark.sanitizer
def test_little_room(tmp_path, small_disk):  # noqa: F811
    folder = small_disk(SIZE)
    d = Daemon(folder / "state", tmp_path / "log", args=["--disk-free-min", "8M"]).start()
    try:
        kept = d.teach(LESSONS)["accepted"]
        assert disk_check(d)["ok"] and metric(d, "learnd_disk_low") == 0
        assert MIN < metric(d, "learnd_state_free_bytes") < 24 << 20
        before = d.ask("where is my card", top_k=2)["results"][0]["labels"]
        stream = EventStream(d, "types=warning")
        filler = folder / "filler"
        filler.write_bytes(b"x" * (int(metric(d, "learnd_state_free_bytes")) - MIN // 2))
        until(lambda: metric(d, "learnd_disk_low") == 1)

        assert next(stream).data["code"] == "disk_low"
        stream.close()
        low = (507, "disk_low")
        item = {"text": "a new one", "label": "card"}
        assert d.problem("POST", "/v1/feedback", item)[:2] == low
        assert d.problem("POST", "/v1/feedback", {"items": [item, item], "wait": "applied"})[:2] \
            == low
        assert d.problem("POST", "/v1/feedback", json.dumps(item) + "\n",
                         headers={"Content-Type": "application/x-ndjson"})[:2] == low
        assert d.problem("POST", "/v1/models", {"name": "more"})[:2] == low
        assert d.problem("POST", "/v1/models/default/labels", {"label": "more"})[:2] == low
        assert d.problem("POST", "/v1/models/default/runs", {})[:2] == low
        assert d.problem("POST", "/v1/models/default/import", {"folder": str(d.encoder)})[:2] == low

        check = disk_check(d)
        assert not check["ok"] and "under 8" in check["detail"]
        assert d.ask("where is my card", top_k=2)["results"][0]["labels"] == before
        d.teach([{"example": kept[0]["example"], "action": "withdraw"}])
        d.delete(f"/v1/examples/{kept[1]['example']}")
        d.post("/v1/erase", {"text": LESSONS[2][0]})
        d.patch("/v1/models/default/labels/card", {"score_min": 0.1})
        rows = d.get("/v1/models/default/examples?limit=100&status=active")["examples"]
        assert len(rows) == len(LESSONS) - 3

        filler.write_bytes(b"")
        until(lambda: metric(d, "learnd_disk_low") == 0)
        d.teach([item])
        assert disk_check(d)["ok"]
        log = d.text()
        assert log.count("event=disk_low") == log.count("event=disk_has_room") == 1
        assert 'code="disk_low"' in d.call("GET", "/metrics").text
    finally:
        d.stop()


def test_it_starts_with_little_room(tmp_path, small_disk):  # noqa: F811
    folder = small_disk(SIZE)
    d = Daemon(folder / "state", tmp_path / "log", args=["--disk-free-min", "1G"]).start()
    try:
        until(lambda: metric(d, "learnd_disk_low") == 1)
        assert d.problem("POST", "/v1/feedback", {"text": "a", "label": "b"})[:2] == \
            (507, "disk_low")
    finally:
        d.stop()
    # and with the guard off the same disk is good enough
    d.args = ["--disk-free-min", "0"]
    d.start()
    try:
        d.teach([("a", "b")])
        assert disk_check(d) == {"name": "disk", "ok": True, "detail": "not watched"}
    finally:
        d.stop()
