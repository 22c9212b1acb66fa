"""kill -9 at random moments under mixed load, again and again on the same state folder.

What was acknowledged is there afterwards: corrections (single, batches, ndjson; durable and
applied), relabels, deletions; every version that an answer named exists. Nothing is asked of what
was still under way: it may be there or not, but never in part. At the end of each life of a state
folder the heads are thrown away and rebuilt from the journal alone: the same answers, or a snapshot
had lied.

LEARND_KILLS=200 for the long run (some minutes); LEARND_SEED repeats one.
"""
import http.client
import json
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from learnd_process import Daemon  # noqa: E402

KILLS = int(os.environ.get("LEARND_KILLS", "15"))
SEED = int(os.environ.get("LEARND_SEED", str(random.SystemRandom().randrange(1 << 32))))
LIFE = 10  # kills before a new, empty state folder: bounds what each restart has to compare
MODELS = ("default", "small")
LABELS = ("card", "cash", "transfer", "limit", "other")


class Ledger:
    """What the daemon has acknowledged, and what it may have done. One lock; a thread that changes
    an example owns it.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.examples = {}   # id -> (model, {labels it may have})
        self.free = []       # ids that nobody is changing
        self.deleted = {}    # id -> model
        self.unsure = set()  # ids whose deletion was not answered
        self.versions = {m: set() for m in MODELS}
        self.keyed = {}      # idempotency key -> (model, body), not answered yet
        self.counts = {}

    def acknowledged(self, kind, model, answer, labels):
        with self.lock:
            self.versions[model].add(answer["version"])
            for accepted, label in zip(answer["accepted"], labels, strict=True):
                self.examples[accepted["example"]] = (model, {label})
                self.free.append(accepted["example"])
            self.counts[kind] = self.counts.get(kind, 0) + len(labels)

    def take(self, rng):
        """An example to change: the caller owns it until it gives it back."""
        with self.lock:
            if not self.free:
                return None, None, None
            i = rng.randrange(len(self.free))
            self.free[i], self.free[-1] = self.free[-1], self.free[i]
            example = self.free.pop()
            return example, *self.examples[example]


class Load:
    """Threads that use the daemon until it dies under them."""

    def __init__(self, daemon, ledger, rng, run):
        self.daemon, self.ledger, self.run = daemon, ledger, run
        self.stopping = threading.Event()
        self.faults = []
        kinds = [self.one, self.one, self.batch, self.stream, self.change, self.ask]
        self.threads = [threading.Thread(target=self.loop, args=(k, random.Random(rng.random()), i))
                        for i, k in enumerate(kinds)]
        for t in self.threads:
            t.start()

    def loop(self, kind, rng, number):
        http_client = http.client.HTTPConnection(self.daemon.host, self.daemon.port, timeout=60)
        n = 0
        try:
            while not self.stopping.is_set():
                kind(http_client, rng, f"{self.run}-{number}-{n}")
                n += 1
        except (OSError, http.client.HTTPException):
            pass  # it was killed
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(error)
        finally:
            http_client.close()

    def join(self):
        self.stopping.set()
        for t in self.threads:
            t.join()
        assert not self.faults, self.faults

    @staticmethod
    def call(client, method, path, body=None, kind="application/json"):
        if isinstance(body, dict):
            body = json.dumps(body)
        headers = {"Content-Type": kind} if body is not None else {}
        client.request(method, path, body, headers, encode_chunked=kind != "application/json")
        answer = client.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def one(self, client, rng, name):
        model, label = rng.choice(MODELS), rng.choice(LABELS)
        body = {"model": model, "text": f"text {name} {rng.choice(LABELS)}", "label": label,
                "annotator": "a", "wait": rng.choice(("durable", "applied")),
                "idempotency_key": name}
        with self.ledger.lock:
            self.ledger.keyed[name] = (model, body)
        status, answer = self.call(client, "POST", "/v1/feedback", body)
        assert status == 202, answer
        self.ledger.acknowledged("one", model, answer, [label])
        with self.ledger.lock:
            del self.ledger.keyed[name]

    def batch(self, client, rng, name):
        model, labels = rng.choice(MODELS), [rng.choice(LABELS) for _ in range(rng.randint(1, 30))]
        items = [{"text": f"item {i} of {name}", "label": label, "annotator": "a"}
                 for i, label in enumerate(labels)]
        status, answer = self.call(client, "POST", "/v1/feedback", {
            "model": model, "items": items, "wait": rng.choice(("durable", "applied"))})
        assert status == 202 and not answer["rejected"], answer
        self.ledger.acknowledged("batch", model, answer, labels)

    def stream(self, client, rng, name):
        if rng.random() < 0.8:  # else long streams leave nothing for the others
            self.ask(client, rng, name)
            return
        model, labels = rng.choice(MODELS), [rng.choice(LABELS) for _ in range(rng.randint(1, 400))]
        lines = (json.dumps({"model": model, "text": f"line {i} of {name}", "label": label,
                             "annotator": "a"}).encode() + b"\n" for i, label in enumerate(labels))
        status, answer = self.call(client, "POST", "/v1/feedback", lines, "application/x-ndjson")
        assert status == 202 and not answer["rejected"], answer
        self.ledger.acknowledged("ndjson", model, answer, labels)

    def change(self, client, rng, name):
        """Relabels or deletes something that was acknowledged before."""
        example, model, labels = self.ledger.take(rng)
        if example is None:
            self.ask(client, rng, name)
            return
        if rng.random() < 0.5:
            with self.ledger.lock:
                self.ledger.unsure.add(example)
            status, answer = self.call(client, "DELETE", f"/v1/examples/{example}")
            assert status == 204, answer
            with self.ledger.lock:
                self.ledger.unsure.remove(example)
                self.ledger.deleted[example] = model
                del self.ledger.examples[example]
                self.ledger.counts["delete"] = self.ledger.counts.get("delete", 0) + 1
            return
        label = rng.choice(LABELS)
        with self.ledger.lock:
            self.ledger.examples[example] = (model, labels | {label})
        status, answer = self.call(client, "POST", "/v1/feedback", {
            "model": model, "example": example, "label": label, "annotator": "a"})
        assert status == 202, answer
        self.ledger.acknowledged("relabel", model, answer, [label])

    def ask(self, client, rng, name):
        model = rng.choice(MODELS)
        status, answer = self.call(client, "POST", "/v1/classify", {
            "model": model, "inputs": [f"where is my {name}"] * rng.randint(1, 8)})
        assert status == 200, answer
        with self.ledger.lock:
            self.ledger.versions[model].add(answer["version"])


def pages(daemon, path, plural):
    cursor, rows = "", []
    while cursor is not None:
        page = daemon.get(f"{path}?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        rows += page[plural]
        cursor = page["next_cursor"]
    return rows


def compare(daemon, ledger):
    """The restarted daemon against the ledger."""
    stored = {e["example"]: e for m in MODELS
              for e in pages(daemon, f"/v1/models/{m}/examples", "examples")}
    for example, (model, labels) in ledger.examples.items():
        if example in ledger.unsure:
            continue
        assert example in stored, f"an acknowledged correction is lost: {example} of {model}"
        row = stored[example]
        assert row["model"] == model and row["label"] in labels and row["status"] == "active", \
            f"{row} has none of {labels}"
    back = ledger.deleted.keys() & stored.keys()
    assert not back, f"deleted and acknowledged, but there: {sorted(back)[:5]}"
    for model, named in ledger.versions.items():
        exist = {v["version"] for v in pages(daemon, f"/v1/models/{model}/versions", "versions")}
        assert named <= exist, f"an answer named a version of {model} that is not: {named - exist}"
    return stored


def settle(daemon, ledger, stored):
    """Makes the ledger sure again: what was under way is now known, keyed items are sent again."""
    for key, (model, body) in sorted(ledger.keyed.items()):
        answer = daemon.post("/v1/feedback", body, expect=202)
        (accepted,) = answer["accepted"]
        assert accepted["duplicate"] == (accepted["example"] in stored), key
        ledger.acknowledged("again", model, answer, [body["label"]])
        stored[accepted["example"]] = {"label": body["label"]}
    ledger.keyed.clear()
    for example in ledger.unsure:
        if example not in stored:
            ledger.deleted[example] = ledger.examples.pop(example)[0]
    ledger.unsure.clear()
    ledger.free = sorted(ledger.examples)
    for example, (model, _) in ledger.examples.items():
        ledger.examples[example] = (model, {stored[example]["label"]})


def answers(daemon):
    """(label -> score) of a few questions to each model."""
    found = []
    for model in MODELS:
        for result in daemon.ask([f"text 1-0-{i} card" for i in range(20)], model=model,
                                 top_k=len(LABELS))["results"]:
            found.append({s["label"]: s["score"] for s in result["labels"]})
    return found


def start_and_kill(daemon, rng):
    """Now and then it is killed while it starts, too."""
    while rng.random() < 0.15:
        daemon.start_unready()
        time.sleep(rng.random() * 0.08)
        daemon.kill9()
    daemon.start()


def one_life(tmp_path, rng, kills, life):
    daemon = Daemon(tmp_path / f"state{life}", tmp_path / f"log{life}").start()
    ledger = Ledger()
    try:
        daemon.post("/v1/models", {"name": "small", "settings": {"features": 64}}, expect=201)
        for run in range(kills):
            load = Load(daemon, ledger, rng, f"{life}-{run}")
            time.sleep(0.02 + rng.random() ** 2 * 0.8)
            daemon.kill9()
            load.join()
            start_and_kill(daemon, rng)
            settle(daemon, ledger, compare(daemon, ledger))
        daemon.teach([{"text": "the last word", "label": m} for m in LABELS])
        daemon.restart()  # a start settles what would else settle when it is quiet
        before = answers(daemon)
        daemon.stop()
        shutil.rmtree(daemon.state / "heads")
        daemon.start()
        for old, new in zip(before, answers(daemon), strict=True):
            assert old.keys() == new.keys()
            assert all(abs(new[label] - score) < 1e-6 for label, score in old.items()), (old, new)
        daemon.stop()
    finally:
        daemon.kill9()
    return ledger.counts


@pytest.mark.parametrize("kills", [KILLS], ids=lambda n: f"{n}kills")
def test_nothing_acknowledged_is_lost(tmp_path, kills):
    print(f"repeat with LEARND_SEED={SEED} LEARND_KILLS={kills}")
    rng = random.Random(SEED)
    total = {}
    for life, first in enumerate(range(0, kills, LIFE)):
        for kind, n in one_life(tmp_path, rng, min(LIFE, kills - first), life).items():
            total[kind] = total.get(kind, 0) + n
        shutil.rmtree(tmp_path / f"state{life}")
    print(f"{kills} kills, acknowledged and found again: {total}")
    assert {"one", "batch", "delete", "relabel"} <= total.keys(), "the load did not reach all"


@pytest.mark.sanitizer
def test_one_kill(tmp_path):
    print(f"repeat with LEARND_SEED={SEED}")
    one_life(tmp_path, random.Random(SEED), 1, 0)
