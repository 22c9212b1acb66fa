#!/usr/bin/env python3
"""A soak: everything that happens to a daemon in a month, within half an hour, at saturation.

Two daemons stand behind a HAProxy. `learnctl bench` asks through the proxy, as fast as it is answered, and checks every
answer. Meanwhile, round after round:
  correct   a text of a fixed set is given another label, wait=applied: a head swap each
  swap      the other of two encoders is made live on daemon A
  backup    learnctl backup of A's state folder; the last one is restored and asked in the end
  reload    SIGHUP to A
  drain     SIGTERM to B and a new start on the same state: the proxy must notice before a request does
Whether memory is flat is A's: the median of the last third of the time against that of the second.

Usage: tests/bench/soak.py [--build DIR] [--minutes M] [--connections N]   Needs haproxy. Exit status 0: nothing failed.
"""
import argparse
import itertools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
ENCODER = os.environ.get("LEARND_ENCODER") or f"{CACHE}/learnd/all-MiniLM-L6-v2"
TOPICS = ["card", "transfer", "refund", "rate", "limit", "password", "address", "fee"]
SHAPES = ["where is my {}", "my {} does not work", "how do I change the {}", "what about the {} of {}",
          "{} declined again", "I have a question about {} and {}"]
HAPROXY = """
global
    log stderr format raw local0 notice
defaults
    mode http
    option redispatch
    retries 3
    retry-on conn-failure empty-response 503
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout check 5s
frontend ask
    bind 127.0.0.1:{port}
    default_backend learnd
backend learnd
    balance roundrobin
    option httpchk GET /health/ready
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1
    server a 127.0.0.1:{a} check
    server b 127.0.0.1:{b} check
"""

ap = argparse.ArgumentParser()
ap.add_argument("--build", default="build")
ap.add_argument("--minutes", type=float, default=30)
ap.add_argument("--connections", type=int, default=32)
args = ap.parse_args()
counts = dict.fromkeys(["corrections", "swaps", "backups", "reloads", "drains"], 0)
failures = []


def texts():
    """Texts with a label each: always the same."""
    pairs = itertools.product(range(len(SHAPES)), TOPICS, TOPICS)
    rows = [(SHAPES[i].format(a, b), a) for i, a, b in pairs]
    return list(dict(rows).items())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """One learnd on a port of its own that stays the same over restarts."""

    def __init__(self, name, folder):
        self.state, self.log, self.port = f"{folder}/{name}", f"{folder}/{name}.log", free_port()
        self.start()

    def start(self):
        mark = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [f"{args.build}/learnd", "--state", self.state, "--encoder", ENCODER, "--listen",
                 f"127.0.0.1:{self.port}", "--train", "manual", "--drain-grace", "4"], stderr=log)
        while True:
            with open(self.log, "rb") as log:
                log.seek(mark)
                if b"event=ready" in log.read():
                    return
            if self.process.poll() is not None:
                sys.exit(f"learnd did not start: see {self.log}")
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120) != 0:
            failures.append(f"exit status {self.process.returncode} of a drained daemon")

    def call(self, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def teach(self, text, label):
        self.call("/v1/feedback", {"text": text, "label": label, "annotator": "soak", "wait": "applied"})

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024


def two_encoders(daemon):
    """Encoder 1: one of a short run, forced."""
    run = daemon.call("/v1/models/default/runs", {"strategy": "joint", "steps_max": 10, "force": True})
    while run["state"] not in ("accepted", "refused", "failed", "cancelled"):
        time.sleep(0.1)
        run = daemon.call(f"/v1/runs/{run['run']}")
    if run["state"] != "accepted":
        sys.exit(f"the run was not accepted: {run}")
    return run["encoder"]


def every(seconds, what, act, over):
    """Does it at that pace, in a thread, until `over`; an exception is a failure of the soak."""
    def go():
        for i in itertools.count():
            if over.wait(seconds):
                return
            try:
                act(i)
                counts[what] += 1
            except Exception as e:  # noqa: BLE001  whatever it was, it is reported
                failures.append(f"{what}: {e!r}")
                return
    thread = threading.Thread(target=go)
    thread.start()
    return thread


def backup(daemon, folder):
    subprocess.run([f"{args.build}/learnctl", "backup", "--state", daemon.state, f"{folder}/backup"],
                   check=True, stdout=subprocess.DEVNULL)


def restored(folder):
    """The last backup becomes a third daemon, which must answer every text."""
    subprocess.run([f"{args.build}/learnctl", "restore", f"{folder}/backup", "--state", f"{folder}/c"],
                   check=True, stdout=subprocess.DEVNULL)
    third = Daemon("c", folder)
    asked = third.call("/v1/classify", {"inputs": [t for t, _ in texts()]})
    if len(asked["results"]) != len(texts()):
        failures.append("the restored daemon does not answer")
    third.stop()


def measured(a, load, minutes):
    """Resident memory every five seconds, while the load lives."""
    rss, until = [], time.monotonic() + 60 * minutes
    while time.monotonic() < until and load.poll() is None and not failures:
        rss.append(a.rss_mb())
        time.sleep(min(5.0, max(0.0, until - time.monotonic())))
    return rss


def soak(folder):
    a, b = Daemon("a", folder), Daemon("b", folder)
    rows = texts()
    for daemon in (a, b):
        for text, label in rows:
            daemon.teach(text, label)
    other = two_encoders(a)
    port = free_port()
    with open(f"{folder}/haproxy.cfg", "w") as f:
        f.write(HAPROXY.format(port=port, a=a.port, b=b.port))
    with open(f"{folder}/texts.jsonl", "w") as f:
        f.writelines(json.dumps({"text": t, "label": x}) + "\n" for t, x in rows)
    proxy = subprocess.Popen(["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)  # its first health checks
    load = subprocess.Popen(
        [f"{args.build}/learnctl", "bench", "--json", "--quiet", "--url", f"http://127.0.0.1:{port}",
         "--file", f"{folder}/texts.jsonl", "--connections", str(args.connections), "--seconds",
         str(60 * args.minutes + 600)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    over = threading.Event()

    def correct(i):
        text, label = rows[i % len(rows)]
        a.teach(text, label if i // len(rows) % 2 else TOPICS[i % len(TOPICS)])

    def drain(_):
        b.stop()
        b.start()

    pace = [every(0.1, "corrections", correct, over),
            every(20, "swaps",
                  lambda i: a.call("/v1/models/default/rollback", {"encoder": (0, other)[i % 2]}), over),
            every(60, "backups", lambda _: backup(a, folder), over),
            every(30, "reloads", lambda _: a.process.send_signal(signal.SIGHUP), over),
            every(45, "drains", drain, over)]
    rss = measured(a, load, args.minutes)
    over.set()
    for thread in pace:
        thread.join()
    load.terminate()
    told, why = load.communicate()
    if load.returncode != 0:
        failures.append(f"learnctl bench ended with {load.returncode}: {why.strip()}")
    print(told.strip())
    restored(folder)
    for daemon in (a, b):
        daemon.stop()
    proxy.terminate()
    proxy.wait()
    return rss


def main():
    if shutil.which("haproxy") is None:
        sys.exit("haproxy is not there: apt install haproxy")
    folder = tempfile.mkdtemp(prefix="learnd-soak-")
    os.chdir(ROOT)
    started = time.monotonic()
    rss = soak(folder)
    third = max(1, len(rss) // 3)
    second, last = statistics.median(rss[third:2 * third] or rss), statistics.median(rss[-third:])
    print(f"{(time.monotonic() - started) / 60:.1f} minutes: "
          + ", ".join(f"{n} {what}" for what, n in counts.items()))
    print(f"resident memory of A: {second:.1f} MB in the second third, {last:.1f} MB in the last: "
          f"{100 * (last / second - 1):+.1f} %; highest {max(rss):.1f}")
    for why in failures:
        print(f"FAILED: {why}")
    print("0 failed requests" if not failures else f"logs: {folder}")
    if failures:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
