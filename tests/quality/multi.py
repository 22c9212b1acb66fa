"""How well models of kind multi learn sets of labels, measured over HTTP. By hand:

    python3 tests/quality/multi.py [banking77 | clinc150] ..

Texts of a public single-label set are taught alone (one label) and joined in pairs of two labels (two);
the same is asked of its test texts. Printed for 5 and 31 examples a label:

    micro, macro   F1 over all label decisions, and its mean over labels, in percent
    one, two       micro-F1 over the single texts and over the pairs
    half, shared   micro-F1 with the threshold 1/2 and with the best one for all labels in hindsight: what
                   thresholds of their own are worth
    ECE            over all label decisions, in 15 bins, in percent; and over those above 0.05, which the
                   many certain noes do not flatter
"""
import os
import random
import sys

from daemon import SHARED, Daemon, rows

SETS = ("banking77", "clinc150")


def sets_of(rows_of, per_label, alone, seed):
    """[(text, {labels})]: of each label per_label texts, `alone` of them single, the rest in pairs."""
    rng, by_label = random.Random(seed), {}
    for r in rows_of:
        by_label.setdefault(r["label"], []).append(r["text"])
    out, waiting = [], []
    for label in sorted(by_label):
        texts = by_label[label]
        rng.shuffle(texts)
        own = int(alone * min(per_label, len(texts)))
        out += [(t, {label}) for t in texts[:own]]
        waiting += [(t, label) for t in texts[own:per_label]]
    rng.shuffle(waiting)
    while waiting:
        text, label = waiting.pop()
        other = next((i for i in range(len(waiting) - 1, -1, -1) if waiting[i][1] != label), None)
        if other is None:
            break
        more, second = waiting.pop(other)
        out.append((f"{text} {more}", {label, second}))
    rng.shuffle(out)
    return out


def f1(hits, chosen, true):
    return 200 * hits / max(chosen + true, 1)


def decisions(scores, truth, threshold):
    """(micro, macro) of choosing by scores[i][label] >= threshold, or by the chosen sets."""
    hits, chosen, true = {}, {}, {}
    for got, want in zip(scores, truth):
        pick = got if threshold is None else {k for k, p in got.items() if p >= threshold}
        for label in pick:
            chosen[label] = chosen.get(label, 0) + 1
            hits[label] = hits.get(label, 0) + (label in want)
        for label in want:
            true[label] = true.get(label, 0) + 1
    labels = set(chosen) | set(true)
    each = [f1(hits.get(k, 0), chosen.get(k, 0), true.get(k, 0)) for k in labels]
    return f1(sum(hits.values()), sum(chosen.values()), sum(true.values())), sum(each) / len(each)


def ece(scores, truth, least):
    bins = [[0, 0.0, 0] for _ in range(15)]
    for got, want in zip(scores, truth):
        for label, p in got.items():
            if p <= least:
                continue
            b = bins[min(int(p * 15), 14)]
            b[0] += 1
            b[1] += p
            b[2] += label in want
    total = sum(b[0] for b in bins)
    return 100 * sum(abs(b[1] - b[2]) for b in bins) / max(total, 1)


def measure(daemon, name, per_label, train, test):
    model = f"{name}-{per_label}"
    daemon.call("POST", "/v1/models", {"name": model, "kind": "multi"})
    taught = sets_of(train, per_label, 0.35, 1)
    daemon.teach(model, [{"text": t, "labels": sorted(s)} for t, s in taught])
    daemon.settle(model)
    asked = sets_of(test, 10**6, 0.35, 2)
    texts, truth = [t for t, _ in asked], [s for _, s in asked]
    picked = [{x["label"] for x in r["labels"]} for r in daemon.ask(model, texts)]
    scores = [{x["label"]: x["score"] for x in r["labels"]}
              for r in daemon.ask(model, texts, threshold=0.0)]
    micro, macro = decisions(picked, truth, None)
    parts = [decisions(*zip(*[(p, t) for p, t in zip(picked, truth) if len(t) == n]), None)[0]
             for n in (1, 2)]
    shared = max(decisions(scores, truth, t / 50)[0] for t in range(5, 35))
    print(f"{name:10} {per_label:4} {len(taught):6} {len(asked):6}  {micro:6.2f} {macro:6.2f}  "
          f"{parts[0]:6.2f} {parts[1]:6.2f}  {decisions(scores, truth, 0.5)[0]:6.2f} {shared:6.2f}  "
          f"{ece(scores, truth, 0):5.2f} {ece(scores, truth, 0.05):5.2f}", flush=True)
    daemon.delete_model(model)


def main():
    names = [n for n in (sys.argv[1:] or SETS) if os.path.isdir(os.path.join(SHARED, "data", n))]
    if not names:
        raise SystemExit(f"SKIPPED: no sets in {SHARED}/data")
    print("set         per  taught  asked   micro  macro     one    two    half shared    ECE  >.05")
    daemon = Daemon()
    try:
        for name in names:
            train = [r for r in rows(f"{name}/train.jsonl") if r["label"] != "oos"]
            test = [r for r in rows(f"{name}/test.jsonl") if r["label"] != "oos"]
            for per_label in (5, 31, 60):
                measure(daemon, name, per_label, train, test)
    finally:
        daemon.close()


if __name__ == "__main__":
    main()
