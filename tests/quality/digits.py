#!/usr/bin/env python3
"""scikit-learn's handwritten digits through a model of vectors: 8x8 pixels in, 0..9 out.

    python3 -m venv venv && venv/bin/pip install scikit-learn && venv/bin/python tests/quality/digits.py

Run by hand. Prints accuracy on the last 797 of 1,797 images after 10, 20, 50 .. of each digit were
taught over HTTP, beside scikit-learn's logistic regression on the same images."""
import os
import time

from daemon import ROOT, Daemon

try:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
except ImportError:
    raise SystemExit("SKIPPED: scikit-learn is not there; the first lines say how to get it")

TINY = os.path.join(ROOT, "tests/golden/tiny-encoder")  # a vector model needs none; a daemon does
EACH = (1, 5, 10, 20, 50, 100)


def take(rows, each):
    """The first `each` of every digit."""
    seen = {}
    for row in rows:
        seen[row[1]] = seen.get(row[1], 0) + 1
        if seen[row[1]] <= each:
            yield row


def main():
    data = load_digits()
    rows = list(zip(data.data, data.target))
    train, test = rows[:1000], rows[1000:]
    daemon = Daemon(encoder=TINY)
    try:
        print("of each digit   learnd   logistic regression   teach ms")
        for each in EACH:
            model, taught = f"digits-{each}", list(take(train, each))
            daemon.call("POST", "/v1/models", {"name": model, "encoder": "none", "dim": 64})
            started = time.monotonic()
            daemon.teach(model, [{"vector": v.tolist(), "label": str(d)} for v, d in taught])
            took = 1000 * (time.monotonic() - started)
            daemon.settle(model)
            got = daemon.ask(model, [{"vector": v.tolist()} for v, _ in test])
            right = sum(g["label"] == str(d) for g, (_, d) in zip(got, test))
            peer = LogisticRegression(max_iter=5000).fit([v for v, _ in taught],
                                                         [d for _, d in taught])
            other = peer.score([v for v, _ in test], [d for _, d in test])
            print(f"{each:13d}   {100 * right / len(test):5.1f} %   {100 * other:17.1f} %"
                  f"   {took:8.0f}")
    finally:
        daemon.close()


main()
