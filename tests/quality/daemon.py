"""A learnd of one's own on the loopback, and the few calls that measuring needs. Standard library only."""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from urllib.parse import quote

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
SHARED = os.environ.get("LEARND_SHARED", os.path.join(ROOT, "../shared"))
CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
ENCODER = os.environ.get("LEARND_ENCODER", os.path.join(CACHE, "learnd/all-MiniLM-L6-v2"))


def rows(path):
    """The jsonl rows of a set under shared/data."""
    with open(os.path.join(SHARED, "data", path), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


class Daemon:
    """One process; its state folder survives restart() and goes with close()."""

    def __init__(self, *flags, encoder=ENCODER):
        self.flags, self.encoder = flags, encoder
        self.state = tempfile.mkdtemp(prefix="learnd-quality-")
        self.start()

    def start(self):
        binary = os.environ.get("LEARND_BIN", os.path.join(ROOT, "build/learnd"))
        self.log = open(os.path.join(self.state, "..", os.path.basename(self.state) + ".log"), "a+")
        mark = self.log.tell()
        self.process = subprocess.Popen(
            [binary, "--state", self.state, "--listen", "127.0.0.1:0", "--encoder", self.encoder,
             "--train", "manual", *self.flags], stderr=self.log)
        while True:
            self.log.seek(mark)
            text = self.log.read()
            found = re.search(r"address=http://127\.0\.0\.1:(\d+)", text)
            if found and "event=ready" in text:
                self.port = int(found.group(1))
                break
            if self.process.poll() is not None:
                raise SystemExit("learnd did not start:\n" + text)
            time.sleep(0.01)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def stop(self, how=signal.SIGTERM):
        self.connection.close()
        self.process.send_signal(how)
        self.process.wait(60)
        self.log.close()

    def restart(self, how=signal.SIGTERM):
        self.stop(how)
        self.start()

    def close(self):
        self.stop()
        os.unlink(self.log.name)
        shutil.rmtree(self.state)

    def call(self, method, path, body=None, kind="application/json"):
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None

    def create(self, model, **settings):
        self.call("POST", "/v1/models", {"name": model, "settings": settings})

    def delete_model(self, model):
        self.call("DELETE", "/v1/models/" + quote(model, safe=""))

    def teach(self, model, items, wait="applied"):
        """Streams {"text","label",..} as ndjson; the model has applied them all when it returns."""
        lines = "".join(
            json.dumps({"model": model, "wait": wait, **item}, ensure_ascii=False) + "\n"
            for item in items)
        got = self.call("POST", "/v1/feedback", lines, "application/x-ndjson")
        if got["rejected"]:
            raise RuntimeError(f"rejected: {got['rejected'][:3]}")
        return got

    def settle(self, model):
        """Waits until the model's coefficients are those of its examples."""
        while not self.call("GET", "/v1/models/" + quote(model, safe=""))["settled"]:
            time.sleep(0.02)

    def ask(self, model, texts, **options):
        """The results of many texts, in order."""
        results = []
        for i in range(0, len(texts), 256):
            got = self.call("POST", "/v1/classify",
                            {"model": model, "inputs": texts[i:i + 256], "store": False, **options})
            results += got["results"]
        return results

    def accuracy(self, model, test):
        """Share right, in percent, and the results."""
        results = self.ask(model, [r["text"] for r in test])
        right = sum(got["label"] == row["label"] for got, row in zip(results, test))
        return 100 * right / len(test), results
