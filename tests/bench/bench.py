#!/usr/bin/env python3
"""The benchmarks of the daemon as one table: what | measured | target | ratio | ok.

Every line is a ratio of two figures of this run on this machine; absolute figures only tell what machine it was. A
line that says MISSED is a finding, not a failure: the exit status tells whether everything could be measured.
Usage: tests/bench/bench.py [--build DIR] [--seconds S] [--only daemon,runs] [--csv FILE]
"""
import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import types
import urllib.request

import bench_runs

ap = argparse.ArgumentParser()
ap.add_argument("--build", default="build")
ap.add_argument("--seconds", type=float, default=4, help="of each load over HTTP")
ap.add_argument("--only", default="daemon,runs", help="which parts")
ap.add_argument("--csv", default="")
args = ap.parse_args()

LABELS = 77
SWAPS, SWAPS_SETTLE = 1000, 100
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
ENCODER = os.environ.get("LEARND_ENCODER") or f"{CACHE}/learnd/all-MiniLM-L6-v2"
rows = []


def report(what, measured, target, ratio=None, ok=None):
    verdict = "" if ok is None else "ok" if ok else "MISSED"
    rows.append((what, measured, target, "" if ratio is None else f"{ratio:.3f}", verdict))
    print("%-52s %18s %24s %8s %s" % rows[-1], flush=True)


def heading():
    print("%-52s %18s %24s %8s %s" % ("what", "measured", "target", "ratio", "ok"), flush=True)


def bench(name, *argv):
    return subprocess.run([f"{args.build}/tests/bench/{name}", *map(str, argv)], check=True,
                          text=True, stdout=subprocess.PIPE).stdout


class Daemon:
    """build/learnd on a free port of the loopback; its state folder outlives it."""

    def __init__(self, state):
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [f"{args.build}/learnd", "--state", state, "--encoder", ENCODER, "--listen",
             "127.0.0.1:0", "--train", "manual"], stderr=subprocess.PIPE, text=True)
        self.port, self.ready_s, self.ready = 0, 0, threading.Event()
        threading.Thread(target=self.read_log, args=(started,), daemon=True).start()
        if not self.ready.wait(60) or self.ready_s == 0:
            self.process.kill()
            sys.exit("learnd did not come up")

    def read_log(self, started):
        for line in self.process.stderr:
            found = re.search(r"event=listening address=http://127\.0\.0\.1:(\d+)", line)
            self.port = int(found.group(1)) if found else self.port
            if "event=ready" in line:
                self.ready_s = time.perf_counter() - started
                self.ready.set()
        self.ready.set()

    def settle(self):
        """Waits until nothing is fitted or audited any more, so that it is not measured as well."""
        for _ in range(1200):
            if self.get("/v1/models/default")["settled"]:
                return
            time.sleep(0.1)
        sys.exit("the model did not settle")

    def call(self, path, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data,
                                         {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def texts_asked(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            return int(re.search(r"^learnd_texts_total (\d+)", answer.read().decode(), re.M)[1])

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        if self.process.wait(60) != 0:
            sys.exit("learnd did not stop cleanly")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def load_command(daemon, texts, model, *flags):
    return [f"{args.build}/learnctl", "bench", "--quiet", "--url", f"http://127.0.0.1:{daemon.port}",
            "--file", texts, "--model", model, *map(str, flags)]


def load(daemon, texts, connections, seconds, model="default"):
    """requests/s, p50 ms"""
    done = subprocess.run(
        load_command(daemon, texts, model, "--connections", connections, "--seconds", seconds,
                     "--json"), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"an answer was not as it should be: {done.stdout}")
    told = json.loads(done.stdout)
    return told["answers_per_s"], told["latency_ms"]["p50"]


def data(folder):
    """Paths of the texts to ask and of the examples to teach, and what they are."""
    shared = os.environ.get("LEARND_SHARED", "")
    test, train = (f"{shared}/data/banking77/{part}.jsonl" for part in ("test", "train"))
    if os.path.exists(test) and os.path.exists(train):
        return test, train, "banking77"
    words = "card my the transfer account is why not a payment where still pending money to".split()
    test, train = f"{folder}/test.jsonl", f"{folder}/train.jsonl"
    for path, lines in ((test, 3080), (train, 10003)):
        with open(path, "w") as file:
            for i in range(lines):
                text = " ".join(words[(i * 7 + w * w * (i % 13 + 1)) % len(words)]
                                for w in range(5 + i % 15))
                file.write(json.dumps({"text": f"{text} {i}", "label": f"l{i % LABELS}"}) + "\n")
    return test, train, "generated texts: $LEARND_SHARED has no banking77"


def in_process(texts, folder):
    """{case: fields} of bench_encoder."""
    path = f"{folder}/encoder.csv"
    print(bench("bench_encoder", "--encoder", ENCODER, "--texts", texts, "--csv", path), flush=True)
    with open(path) as file:
        return {line["what"]: line for line in csv.DictReader(file)}


def fsync_ms(folder):
    """Median time to append a page to a file beside the database and make it durable."""
    times = []
    with open(f"{folder}/fsync.tmp", "wb") as file:
        for _ in range(60):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    os.unlink(f"{folder}/fsync.tmp")
    return statistics.median(times)


def ask(texts, daemon, encoder):
    rate = float(encoder["batch 32"]["texts_s_2_lanes"])
    for connections in (16, 64, 256):
        got, p50 = load(daemon, texts, connections, args.seconds)
        target = 0.85 if connections == 64 else None
        report(f"/v1/classify, {connections} connections",
               f"{got:.0f}/s, p50 {p50:.1f} ms", f">= 0.85 x {rate:.0f}/s" if target else "",
               got / rate, None if target is None else got / rate >= target)
    alone = float(encoder["alone_ms"]["texts_s_2_lanes"])
    _, p50 = load(daemon, texts, 1, args.seconds)
    report("one request alone, p50", f"{p50:.3f} ms", f"<= {alone:.3f} + 0.3 ms",
           p50 / (alone + 0.3), p50 <= alone + 0.3)


def correct(daemon, folder, encoder):
    times = []
    for i in range(60):
        body = {"text": f"my card number {i} has not come", "label": "card_arrival",
                "wait": "applied"}
        started = time.perf_counter()
        daemon.call("/v1/feedback", body)
        times.append((time.perf_counter() - started) * 1e3)
    limit = float(encoder["alone_ms"]["texts_s"]) + fsync_ms(folder) + 3
    got = statistics.median(times)
    report("one correction, wait=applied, median", f"{got:.2f} ms", f"<= {limit:.2f} ms",
           got / limit, got <= limit)


def teach(daemon, train, folder):
    lines = [dict(json.loads(line), wait="applied") for line in open(train)]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    encode_s = len(lines) / float(in_process(train, folder)["batch 32"]["texts_s_2_lanes"])
    started = time.perf_counter()
    answer = daemon.call("/v1/feedback", body, "application/x-ndjson")
    took = time.perf_counter() - started
    if answer["accepted_count"] != len(lines):
        sys.exit(f"the import was not taken whole: {answer['accepted_count']} of {len(lines)}")
    report(f"import of {len(lines)} texts, applied", f"{took:.2f} s", f"<= 1.25 x {encode_s:.2f} s",
           took / encode_s, took <= 1.25 * encode_s)


def swap(daemon, texts):
    """Memory over many swaps while clients ask."""
    daemon.settle()  # a load begins when the model has settled
    asked = daemon.texts_asked()
    http = subprocess.Popen(load_command(daemon, texts, "default", "--seconds", 600),
                            stdout=subprocess.DEVNULL)
    try:
        while daemon.texts_asked() == asked and http.poll() is None:
            time.sleep(0.01)
        for i in range(SWAPS):
            if i == SWAPS_SETTLE:
                settled = daemon.rss_mb()
            daemon.call("/v1/feedback", {"text": "where is the card I ordered", "wait": "applied",
                                         "label": ("card_arrival", "lost_or_stolen_card")[i % 2]})
        grown = daemon.rss_mb() - settled
        if http.poll() is not None:
            sys.exit("the load over HTTP ended before the swaps did")
    finally:
        http.terminate()
        http.wait()
    report(f"memory over {SWAPS - SWAPS_SETTLE} swaps after {SWAPS_SETTLE}", f"{grown:+.1f} MB",
           f"<= {settled * 0.01:.1f} MB (1 %)", grown / (settled * 0.01), grown <= settled * 0.01)


def measure_daemon(folder, test, train):
    state = f"{folder}/state"
    os.mkdir(state)
    daemon = None
    try:
        encoder = in_process(test, folder)
        heading()
        best = encoder["batch 32"]
        report("encoder, one lane, of oneDNN's matmul", f"{best['tflops']} TFLOP/s", ">= 0.70",
               float(best["of_peak"]), float(best["of_peak"]) >= 0.7)
        report("encoder, two lanes over one", f"{best['texts_s_2_lanes']}/s", ">= 1.8",
               float(best["2_lanes_over_1"]), float(best["2_lanes_over_1"]) >= 1.8)
        daemon = Daemon(state)
        teach(daemon, train, folder)
        rss = daemon.rss_mb()
        report("resident memory with them", f"{rss:.0f} MB", "<= 200 MB", rss / 200, rss <= 200)
        daemon.stop()
        daemon = Daemon(state)
        report("start to ready, warm files", f"{daemon.ready_s:.3f} s", "<= 1 s", daemon.ready_s,
               daemon.ready_s <= 1)
        daemon.settle()
        ask(test, daemon, encoder)
        correct(daemon, state, encoder)
        swap(daemon, test)
        daemon.stop()
    finally:
        if daemon is not None:
            daemon.kill()


def measure_runs(folder, test, train):
    def state(name):
        os.mkdir(f"{folder}/{name}")
        return f"{folder}/{name}"

    heading()
    bench_runs.measure(types.SimpleNamespace(
        Daemon=Daemon, report=report, state=state, load_command=load_command,
        saturation=lambda daemon, texts, model: load(daemon, texts, 64, args.seconds, model)[0]),
        test, train, folder)


def main():
    folder = tempfile.mkdtemp(prefix="learnd-bench-")
    try:
        test, train, what = data(folder)
        print(f"texts: {what}; encoder: {ENCODER}\n")
        if "daemon" in args.only.split(","):
            measure_daemon(folder, test, train)
        if "runs" in args.only.split(","):
            measure_runs(folder, test, train)
    finally:
        shutil.rmtree(folder)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows([("what", "measured", "target", "ratio", "ok"), *rows])


main()
