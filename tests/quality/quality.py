#!/usr/bin/env python3
"""How good the fast path is on real sets, measured through the HTTP interface of a running daemon. By hand, a quarter of an hour:

    tests/quality/quality.py [--only final,shots,..] [--sets banking77,clinc150] [--seed 1]

Prints one line a cell: what, measured, target, ok. The targets are those the project set itself when it began. Needs the sets
in $LEARND_SHARED/data (default ../shared) and the default encoder (deploy/model.sh); says so and ends with 77 without them.
Every cell uses models of its own in one daemon; the last line is `N passed, N failed`."""
import argparse
import random

from daemon import Daemon, rows
from tally import Tally, need

SETS = ("banking77", "clinc150")
TARGETS = {  # (cell, set) -> (comparison, target)
    ("final, random order", "banking77"): (">=", 92.7), ("final, random order", "clinc150"): (">=", 93.6),
    ("final, 10 labels at a time", "banking77"): (">=", 92.7), ("final, 10 labels at a time", "clinc150"): (">=", 93.6),
    ("final, M=2048", "banking77"): (">=", 92.8), ("final, M=2048", "clinc150"): (">=", 93.9),
    ("orders differ by", "banking77"): ("<=", 0.05), ("orders differ by", "clinc150"): ("<=", 0.05),
    ("after kill -9 differ by", "banking77"): ("<=", 0.0), ("after kill -9 differ by", "clinc150"): ("<=", 0.0),
    ("prequential, 10 labels at a time", "banking77"): (">=", 87.4), ("prequential, 10 labels at a time", "clinc150"): (">=", 91.0),
    ("prequential, random order", "banking77"): (">=", 86.5), ("prequential, random order", "clinc150"): (">=", 89.2),
    ("5 a label", "banking77"): (">=", 77.5), ("5 a label", "clinc150"): (">=", 85.3),
    ("10 a label", "banking77"): (">=", 84.5), ("10 a label", "clinc150"): (">=", 89.0),
    ("20 a label", "banking77"): (">=", 88.7), ("20 a label", "clinc150"): (">=", 91.0),
    ("lost, 20 % wrong at random", "banking77"): ("<=", 1.2), ("lost, 20 % wrong at random", "clinc150"): ("<=", 1.0),
    ("lost, 20 % wrong, confusable", "banking77"): ("<=", 2.5), ("lost, 20 % wrong, confusable", "clinc150"): ("<=", 2.0),
    ("ECE, all examples", "banking77"): ("<=", 2.0), ("ECE, all examples", "clinc150"): ("<=", 2.0),
    ("500 deleted, scores differ by", "banking77"): ("<=", 1e-6), ("500 deleted, scores differ by", "clinc150"): ("<=", 1e-6),
    ("out of scope, AUROC", "clinc150"): (">=", 97.0),
    ("out of scope, found at a true 5 %", "clinc150"): (">=", 84.0),
    ("in scope, rejected", "clinc150"): ("<=", 8.0),
}
tally = Tally(TARGETS)
tell = tally.tell


def pairs(items):
    return [{"text": r["text"], "label": r["label"]} for r in items]


def shuffled(items, seed):
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


def incremental(items, seed):
    """Ten new labels at a time, in random order within each ten."""
    labels = shuffled(sorted({r["label"] for r in items}), seed)
    block = {label: i // 10 for i, label in enumerate(labels)}
    return sorted(shuffled(items, seed), key=lambda r: block[r["label"]])


def ece(results, test):
    """15 equal bins of the top score, in percent."""
    bins = [[0, 0.0, 0] for _ in range(15)]
    for got, row in zip(results, test):
        b = bins[min(14, int(got["score"] * 15))]
        b[0] += 1
        b[1] += got["score"]
        b[2] += got["label"] == row["label"]
    return 100 * sum(abs(b[1] - b[2]) for b in bins) / len(test)


class Bench:
    def __init__(self, daemon, seed):
        self.daemon, self.seed, self.models = daemon, seed, 0

    def model(self, **settings):
        self.models += 1
        name = f"m{self.models}"
        self.daemon.create(name, **settings)
        return name

    def taught(self, items, **settings):
        model = self.model(**settings)
        self.daemon.teach(model, pairs(items))
        self.daemon.settle(model)
        return model

    def scored(self, items, test, **settings):
        """Accuracy and results of a model that is taught, asked and deleted."""
        model = self.taught(items, **settings)
        found = self.daemon.accuracy(model, test)
        self.daemon.delete_model(model)
        return found

    # ---- cells

    def final(self, name, train, test):
        model = self.taught(shuffled(train, self.seed))
        one, results = self.daemon.accuracy(model, test)
        two, others = self.scored(incremental(train, self.seed), test)
        tell("final, random order", name, one)
        tell("final, 10 labels at a time", name, two)
        tell("orders differ by", name, 100 * sum(a["label"] != b["label"] for a, b in zip(results, others)) / len(test))
        tell("ECE, all examples", name, ece(results, test))
        self.daemon.restart(9)
        self.daemon.settle(model)
        again = self.daemon.accuracy(model, test)[1]
        tell("after kill -9 differ by", name, max(abs(a["score"] - b["score"]) for a, b in zip(results, again)))
        self.daemon.delete_model(model)
        tell("final, M=2048", name, self.scored(shuffled(train, self.seed), test, features=2048)[0])

    def forget(self, name, train, test):
        """500 examples taught and deleted, against never having been taught; every label's score of every test text."""
        gone = set(r["text"] for r in shuffled(train, self.seed + 1)[:500])
        model = self.model()
        got = []
        for i in range(0, len(train), 1000):
            part = [{"model": model, **item} for item in pairs(train[i:i + 1000])]
            got += self.daemon.call("POST", "/v1/feedback", {"items": part, "wait": "applied"})["accepted"]
        ids = {row["text"]: answer["example"] for row, answer in zip(train, got)}
        for text in gone:
            self.daemon.call("DELETE", "/v1/examples/" + ids[text])
        other = self.taught([r for r in train if r["text"] not in gone])
        self.daemon.settle(model)
        texts, worst = [r["text"] for r in test], 0.0
        for a, b in zip(self.daemon.ask(model, texts, top_k=200), self.daemon.ask(other, texts, top_k=200)):
            left = {s["label"]: s["score"] for s in a["labels"]}
            for s in b["labels"]:
                worst = max(worst, abs(s["score"] - left[s["label"]]))
        tell("500 deleted, scores differ by", name, worst)
        self.daemon.delete_model(model)
        self.daemon.delete_model(other)

    def prequential(self, name, train, _test):
        """Asked before it is taught, one by one; a label never seen before is an error."""
        for cell, order in (("10 labels at a time", incremental), ("random order", shuffled)):
            stream = order(shuffled(train, self.seed)[:6000], self.seed)
            model, right = self.model(), 0
            for row in stream:
                right += self.daemon.ask(model, [row["text"]])[0]["label"] == row["label"]
                self.daemon.call("POST", "/v1/feedback", {"model": model, "wait": "applied", **pairs([row])[0]})
            tell(f"prequential, {cell}", name, 100 * right / len(stream))
            self.daemon.delete_model(model)

    def shots(self, name, train, test):
        for k in (1, 2, 3, 4, 5, 10, 20):
            total, error = 0.0, 0.0
            for draw in range(3):
                seen, some = {}, []
                for row in shuffled(train, self.seed * 100 + draw):
                    seen[row["label"]] = seen.get(row["label"], 0) + 1
                    if seen[row["label"]] <= k:
                        some.append(row)
                accuracy, results = self.scored(some, test)
                total += accuracy / 3
                error += ece(results, test) / 3
            tell(f"{k} a label", name, total)
            tell(f"ECE, {k} a label", name, error)

    def noise(self, name, train, test):
        clean = self.scored(train, test)[0]
        for cell, other in (("at random", self.at_random(train)), ("confusable", self.confusable(name, train))):
            rng, wrong, items = random.Random(self.seed), set(), []
            for row in train:
                bad = rng.random() < 0.2
                items.append({**row, "label": other(row["label"], rng)} if bad else row)
                if bad:
                    wrong.add(row["text"])
            accuracy, results = self.scored(items, test)
            tell("lost, 20 % wrong " + cell if cell == "at random" else "lost, 20 % wrong, confusable", name, clean - accuracy)
            tell(f"ECE, 20 % wrong {cell}", name, ece(results, test))

    def at_random(self, train):
        labels = sorted({r["label"] for r in train})
        return lambda label, rng: rng.choice([x for x in labels if x != label])

    def confusable(self, name, train):
        """The label whose mean embedding is nearest."""
        sums = {}
        model = self.model()
        for i in range(0, len(train), 256):
            part = train[i:i + 256]
            got = self.daemon.call("POST", "/v1/embed", {"model": model, "inputs": [r["text"] for r in part]})
            for row, x in zip(part, got["embeddings"]):
                s = sums.setdefault(row["label"], [0.0] * len(x))
                for j, v in enumerate(x):
                    s[j] += v
        self.daemon.delete_model(model)
        for label, s in sums.items():
            length = sum(v * v for v in s) ** 0.5
            sums[label] = [v / length for v in s]
        near = {a: max((b for b in sums if b != a), key=lambda b, a=a: sum(x * y for x, y in zip(sums[a], sums[b])))
                for a in sums}
        return lambda label, _rng: near[label]

    def scope(self, name, train, test):
        if name != "clinc150":
            return
        model = self.taught(train)
        inside = self.daemon.ask(model, [r["text"] for r in test])
        outside = self.daemon.ask(model, [r["text"] for r in rows("clinc150/oos_test.jsonl")])
        inner, outer = sorted(r["novelty"] for r in inside), sorted(r["novelty"] for r in outside)
        below, at = 0, 0
        for x in outer:
            while at < len(inner) and inner[at] < x:
                at += 1
            below += at
        limit = inner[int(0.95 * len(inner))]
        tell("out of scope, AUROC", name, 100 * below / len(inner) / len(outer))
        tell("out of scope, found at a true 5 %", name, 100 * sum(x > limit for x in outer) / len(outer))
        tell("in scope, rejected", name, 100 * sum(r["abstain"] for r in inside) / len(inside))
        tell("out of scope, rejected", name, 100 * sum(r["abstain"] for r in outside) / len(outside))
        self.daemon.delete_model(model)


def main():
    cells = ("final", "forget", "scope", "shots", "noise", "prequential")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(cells))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    wrong = [c for c in args.only.split(",") if c not in cells]
    if wrong:
        parser.error(f"--only takes {', '.join(cells)}; not {wrong[0]}")
    need(*SETS)
    daemon = Daemon()
    try:
        bench = Bench(daemon, args.seed)
        for name in args.sets.split(","):
            train, test = rows(f"{name}/train.jsonl"), rows(f"{name}/test.jsonl")
            for cell in args.only.split(","):
                getattr(bench, cell)(name, train, test)
    finally:
        daemon.close()
    tally.end()


if __name__ == "__main__":
    main()
