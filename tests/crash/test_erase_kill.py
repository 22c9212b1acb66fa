"""kill -9 in the middle of erasing, again and again on the same state folder.

What was answered is in no byte of the folder, before the restart and after. What was not answered
is either wholly there, or (its rows are gone) in no byte once the daemon has started again. What
nobody erased is there.

LEARND_ERASE_KILLS=100 for the long run; LEARND_SEED repeats one.
"""
import os
import random
import sys
import threading
from pathlib import Path

import pytest
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from learnd_process import Daemon  # noqa: E402

KILLS = int(os.environ.get("LEARND_ERASE_KILLS", "12"))
SEED = int(os.environ.get("LEARND_SEED", str(random.SystemRandom().randrange(1 << 32))))
EACH = 12  # texts a round


def found(state, texts):
    whole = [p.read_bytes() for p in state.rglob("*") if p.is_file()]
    return {t for t in texts if any(t.encode() in content for content in whole)}


def erase_all(daemon, texts, ids, answered):
    """One after the other, by text and by id in turn, until the daemon is dead."""
    session = requests.Session()
    session.trust_env = False
    for i, text in enumerate(texts):
        try:
            if i % 2:
                answer = session.delete(f"{daemon.url}/v1/examples/{ids[text]}", timeout=60)
            else:
                answer = session.post(f"{daemon.url}/v1/erase", json={"text": text}, timeout=60)
        except requests.RequestException:
            return
        if answer.status_code in (200, 204):
            answered.append(text)


@pytest.mark.sanitizer
def test_kill_while_erasing(tmp_path):
    dice = random.Random(SEED)
    print(f"LEARND_SEED={SEED}")
    daemon = Daemon(tmp_path / "state", tmp_path / "log").start()
    kept = set()
    interrupted = 0
    try:
        for life in range(KILLS):
            texts = [f"life {life}, person {i:03d}, {dice.randrange(1 << 60):015x}"
                     for i in range(EACH + 2)]
            taught = daemon.teach([(t, "xy"[i % 2]) for i, t in enumerate(texts)])["accepted"]
            ids = {t: a["example"] for t, a in zip(texts, taught, strict=True)}
            kept |= set(texts[EACH:])
            if life % 3 == 0:
                daemon.restart()  # so that an image holds them
            answered = []
            thread = threading.Thread(target=erase_all,
                                      args=(daemon, texts[:EACH], ids, answered))
            thread.start()
            thread.join(dice.random() * 0.15)
            daemon.kill9()
            thread.join()
            interrupted += len(answered) < EACH
            assert found(daemon.state, answered) == set()
            daemon.start()
            rows = daemon.get("/v1/models/default/examples?limit=1000")["examples"]
            there = {r["text"] for r in rows}
            assert kept <= there and not there & set(answered)
            assert found(daemon.state, texts[:EACH]) == there & set(texts[:EACH])
            kept |= there
        assert interrupted > 0
        daemon.stop()
    finally:
        daemon.kill9()
