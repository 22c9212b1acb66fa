#!/usr/bin/env python3
"""Writes head.txt: events, and what the numpy reference of the head makes of them. By hand:
    python tests/golden/head/make.py ../shared/reference/fastpath.py > tests/golden/head/head.txt
Embeddings are multiples of 1/64, so that fp16 and fp32 hold them, and every product of two, exactly: what differs from the
reference then is the order of fp64 additions, nothing else. Tolerance in the test: 1e-9 relative."""
import importlib.util
import sys

import numpy as np

spec = importlib.util.spec_from_file_location("fastpath", sys.argv[1])
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)

D, M, SEED, LAM = 16, 64, 7, 0.15
rng = np.random.default_rng(3)
centres = rng.standard_normal((6, D))


def vector(c):
    x = centres[c] + 0.6 * rng.standard_normal(D)
    return np.round(x / np.linalg.norm(x) * 64) / 64


fp = ref.FastPath(D, M, LAM, SEED)
X, events = [], []


def add(name, target, w=1.0, c=0):
    X.append(vector(c))
    events.append(dict(op="add", id=name, i=len(X) - 1, w=w, **({"label": target} if isinstance(target, str) else {"labels": target})))


for i in range(66):
    c = int(rng.integers(6))
    add(f"e{i}", f"L{c}", 1.0 if i % 7 else 0.25, c)
    if i % 11 == 5:
        events.append(dict(op="del", id=f"e{i - 3}"))
    if i % 13 == 6:
        events.append(dict(op="rel", id=f"e{i - 2}", label=f"L{(c + 1) % 6}"))
add("soft1", {"L0": 0.5, "L1": 0.5}, 1.0, 0)
add("soft2", {"L2": 0.75, "L3": 0.25}, 2.0, 2)
add("gone", "L6", 1.0, 3)
events.append(dict(op="del", id="gone"))
ref.replay(fp, events, np.array(X), block=5)
fp.publish()
Q = np.array([vector(i % 6) for i in range(8)])
out, S, p = fp.classify(Q, 0.05)
num = lambda a: " ".join(repr(float(v)) for v in np.asarray(a).ravel())
print("settings", D, M, SEED, LAM, "events", len(events), "queries", len(Q))
labels = {name: k for k, name in enumerate(fp.labels)}
for e in events:
    h = int(ref.mix64(np.array([ref.fnv(e["id"])], np.uint64))[0])
    t = {} if e["op"] == "del" else e.get("labels", {e.get("label"): 1.0})
    if e["op"] == "rel":
        add_ev = next(a for a in events if a["op"] == "add" and a["id"] == e["id"])
        i, w = add_ev["i"], add_ev["w"]
    else:
        i, w = e.get("i", 0), e.get("w", 1.0)
    print("event", h, w, len(t), " ".join(f"{labels[k]} {v}" for k, v in t.items()), num(X[i]))
print("state", len(fp.labels), num(fp.n), num(fp.W), num(fp.A))
print("P", num(fp.P))
print("beta", num(fp.beta), "novelty", num(fp.nov), "threshold", float(np.quantile(fp.novs, 0.95)))
print("R", num(fp.R[0, :8]))
print("active", len(fp.a), " ".join(map(str, fp.a)))
for q in range(len(Q)):
    print("query", num(Q[q]), out[q][2], num(p[q]), num(S[q]))
