#!/usr/bin/env python3
"""Can its word be trusted, on real sets through the HTTP interface of a running daemon. By hand, some minutes:

    tests/quality/trust.py [--only wrong,drift] [--seed 1]

    wrong   20 % of CLINC150's training labels are wrong: accuracy, precision and recall of what the audit calls likely wrong,
            and the first page of the review list as learnctl shows it
    drift   SpamAssassin's mails in the order they came: accuracy by month, each mail asked before it was taught, and every alarm

Needs the sets in $LEARND_SHARED/data (default ../shared) and the default encoder (deploy/model.sh); says so and ends with 77
without them. False alarms on stationary streams: build/tests/bench/bench_drift. The last line is `N passed, N failed`."""
import argparse
import os
import random
import re
import subprocess
from collections import defaultdict

from daemon import ROOT, Daemon, rows
from quality import pairs, shuffled
from tally import Tally, need

tally = Tally()


def check(what, value, least):
    tally.line(value >= least, f"{what:52} {value:8.3f}  >= {least}")


def pages(daemon, path, name):
    """Every row of a paged list."""
    cursor, found = "", []
    while cursor is not None:
        got = daemon.call("GET", f"{path}{'&' if '?' in path else '?'}limit=100" + (f"&cursor={cursor}" if cursor else ""))
        found += got[name]
        cursor = got.get("next_cursor")
    return found


def wrong(daemon, args):
    rng = random.Random(args.seed)
    train, test = shuffled(pairs(rows("clinc150/train.jsonl")), args.seed), rows("clinc150/test.jsonl")
    labels = sorted({r["label"] for r in train})
    spoiled = set()
    for r in train:
        if rng.random() < 0.2:
            spoiled.add(r["text"])
            r["label"] = rng.choice([label for label in labels if label != r["label"]])
    daemon.create("m")
    daemon.teach("m", train)
    daemon.settle("m")
    accuracy, _ = daemon.accuracy("m", test)
    flagged = {item["text"] for item in pages(daemon, "/v1/models/m/review?kind=likely_wrong", "items")}
    hits = len(flagged & spoiled)
    print(f"CLINC150, {len(spoiled)} of {len(train)} labels wrong at random; {len(flagged)} flagged, {hits} of them rightly")
    check("accuracy on the test split, percent", accuracy, 93.1)
    check("flags: precision", hits / max(1, len(flagged)), 0.9)
    check("flags: recall", hits / len(spoiled), 0.85)
    shown = subprocess.run([os.path.join(ROOT, "build/learnctl"), "review", "--url", f"http://127.0.0.1:{daemon.port}", "--model",
                            "m", "--limit", "10"], capture_output=True, text=True, check=False)
    print(shown.stdout + shown.stderr)


def drift(daemon, args):
    mails = rows("spamassassin/stream.jsonl")
    daemon.create("mail")
    by_month = defaultdict(lambda: [0, 0])
    position = {}
    for at in range(0, len(mails), 10):
        some = mails[at:at + 10]
        results = daemon.ask("mail", [r["text"] for r in some])
        for r, got in zip(some, results):
            month = by_month[r["time"][:7]]
            month[0] += got["label"] == r["label"]
            month[1] += 1
        got = daemon.teach("mail", pairs(some))
        for accepted, r in zip(got["accepted"], some):
            position[accepted["seq"]] = r["time"][:10]
    print("month    mails  accuracy")
    for month in sorted(by_month):
        right, n = by_month[month]
        print(f"{month}  {n:5}  {100 * right / n:6.2f} %")
    print("alarms (detector, from, to, since which mail, do new labels explain it)")
    with open(daemon.log.name, encoding="utf-8") as log:
        for found in re.finditer(r"event=drift model=mail detector=(\S+) label=(?:\S+) from=(\S+) to=(\S+) since_(?:seq|unix)=(\S+)"
                                 r" new_labels=(\S+)", log.read()):
            since = position.get(int(found[4]), f"seq {found[4]}") if found[4].lstrip("-").isdigit() else found[4]
            print(f"  {found[1]:20} {found[2]:>8} -> {found[3]:<8} since {since}  {found[5]}")
    check("prequential accuracy over all, percent", 100 * sum(m[0] for m in by_month.values()) / len(mails), 90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="wrong,drift")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    need("clinc150")
    for part in args.only.split(","):
        daemon = Daemon()
        try:
            globals()[part](daemon, args)
        finally:
            daemon.close()
    tally.end()


if __name__ == "__main__":
    main()
