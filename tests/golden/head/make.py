#!/usr/bin/env python3
"""Writes head.txt: a stream of events, and what the head must make of the set they leave. By hand,
with numpy:
    python tests/golden/head/make.py > tests/golden/head/head.txt

This is the definition, not the method: the state is computed at once from the final set, and
leave-one-out scores by really leaving one out and solving again. The C code does neither (it
updates, and uses the closed form), so agreement says that its recursion and its closed form are
right.

Embeddings are multiples of 1/64, so that fp16 and fp32 hold them, and every product of two,
exactly: what differs then is the order of fp64 additions, nothing else. Tolerance in the test: 1e-9
relative; 1e-7 for the coefficients, where Newton stops."""

import numpy as np

D, M, SEED, LAM, BUDGET = 16, 64, 7, 0.15, 0.05
LABELS = 7  # the last one loses its only example
MEDIANS = np.array([1.0, 0.4, 0.4, 9.0, 7.0])  # ridge, LDA, count, prototype, nearest
WIDTHS = np.array([1.0, 1.0, 0.5, 1.0, 1.0])
TIE = np.eye(5)
TIE[2, 1] = 1  # the count coefficient is theta times the LDA coefficient
rng = np.random.default_rng(3)
centres = rng.standard_normal((6, D))


# ---- the events ---------------------------------------------------------------------------------


def vector(c):
    x = centres[c] + 0.6 * rng.standard_normal(D)
    return np.round(x / np.linalg.norm(x) * 64) / 64


def make_events():
    """(id, weight, {label: value}, embedding); an empty target removes."""
    events, known = [], []

    def add(target, weight, c):
        known.append((int(rng.integers(1, 2**63)) * 2 + 1, weight, vector(c)))
        events.append((*known[-1][:2], target, known[-1][2]))

    for i in range(66):
        c = int(rng.integers(6))
        add({c: 1.0}, 0.25 if i % 7 == 0 else 1.0, c)
        if i % 11 == 5:
            ident, weight, x = known[i - 3]
            events.append((ident, weight, {}, x))
        if i % 13 == 6:
            ident, weight, x = known[i - 2]
            events.append((ident, weight, {(c + 1) % 6: 1.0}, x))
    add({0: 0.5, 1: 0.5}, 1.0, 0)
    add({2: 0.75, 3: 0.25}, 2.0, 2)
    add({6: 1.0}, 1.0, 3)
    events.append((known[-1][0], 1.0, {}, known[-1][2]))
    return events


class Set:
    """The examples that are left, by id."""

    def __init__(self, events):
        left = {}
        for ident, weight, target, x in events:
            left.pop(ident, None)
            if target:
                left[ident] = (weight, target, x)
        order = sorted(left)
        self.w = np.array([left[k][0] for k in order])
        self.X = np.array([left[k][2] for k in order])
        self.T = np.zeros((len(order), LABELS))
        for i, k in enumerate(order):
            for c, value in left[k][1].items():
                self.T[i, c] = value

    def without(self, i):
        other = object.__new__(Set)
        other.w, other.X, other.T = (np.delete(a, i, axis=0) for a in (self.w, self.X, self.T))
        return other


# ---- the state ----------------------------------------------------------------------------------


def mix(z):
    """SplitMix64's step and finaliser."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def make_projection():
    """N(0,1) from draw number i M + j by Box-Muller, rounded to fp32."""
    with np.errstate(over="ignore"):
        draws = mix(np.arange(D * M, dtype=np.uint64) + mix(np.array([SEED], np.uint64)))
    u1 = ((draws >> np.uint64(32)).astype(float) + 1) / 2**32
    u2 = (draws & np.uint64(0xFFFFFFFF)).astype(float) / 2**32
    normal = np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)
    return normal.astype(np.float32).astype(float).reshape(D, M)


R = make_projection()


def features(X):
    return np.maximum(X @ R, 0) * np.sqrt(2 / M)


class State:
    def __init__(self, s):
        F, wT = features(s.X), s.w[:, None] * s.T
        self.P = np.linalg.inv(F.T @ (F * s.w[:, None]) + LAM * np.eye(M))
        self.P = (self.P + self.P.T) / 2
        Q = F.T @ wT
        self.W = self.P @ Q
        self.n = wT.sum(0)
        self.A = np.diag(self.n) - Q.T @ self.W
        self.S = wT.T @ s.X
        self.N = self.n.sum()
        self.kappa = (M - LAM * np.trace(self.P)) / self.N


# ---- the five scores, of texts and of examples left out -----------------------------------------


def cosine_table(X, s, active):
    """Per label the largest similarity to a trusted example (to any, where none is), and the mean
    of the nearest five."""
    C = X @ s.X.T
    own, trusted = s.T.argmax(1), s.w >= 0.5
    best = np.full((len(X), len(active)), -1.0)
    for k, c in enumerate(active):
        pick = (own == c) & trusted
        pick = pick if pick.any() else own == c
        if pick.any():
            best[:, k] = C[:, pick].max(1)
    return best, C


def five_scores(X, state, active, s, count):
    """count: the count score, which leaving one out does not change."""
    n, T = state.n[active], np.linalg.inv(state.A[np.ix_(active, active)])
    z = features(X) @ state.W[:, active]
    lda = 0.05 * state.N * (z @ T - np.diag(T) / 2 + 1 / (2 * n))
    prototypes = state.S[active] / np.linalg.norm(state.S[active], axis=1, keepdims=True)
    nearest, C = cosine_table(X, s, active)
    return np.stack([z, lda, np.broadcast_to(count, z.shape), X @ prototypes.T, nearest], 2), C


def mean_of_five(row, others):
    k = min(5, others)
    return np.sort(row)[::-1][:k].mean()


def left_out(s, state, active, count):
    """Scores, own label, mean of the nearest five, and what was left of the own label, of each example that fits."""
    scores, own, near, left = [], [], [], []
    for i in range(len(s.w)):
        c = int(s.T[i].argmax())
        if s.T[i, c] != 1 or s.w[i] < 1 or state.n[c] <= s.w[i] + 1e-9:
            continue
        rest = s.without(i)
        row, C = five_scores(s.X[i : i + 1], State(rest), active, rest, count)
        scores.append(row[0])
        own.append(active.index(c))
        near.append(mean_of_five(C[0], len(rest.w)))
        left.append(rest.w[rest.T[:, c] > 0] @ rest.T[rest.T[:, c] > 0, c])
    return np.array(scores), np.array(own), np.array(near), np.array(left)


# ---- the pool and novelty -----------------------------------------------------------------------


def fit(scores, own):
    """The minimum over u of -sum log softmax(S b)[own] + sum u^2 / (2 widths^2), b = medians
    exp(TIE u), by Newton."""
    u, rows = np.zeros(5), np.arange(len(own))

    def value(u):
        z = scores @ (MEDIANS * np.exp(TIE @ u))
        top = z.max(1)
        log_sum = top + np.log(np.exp(z - top[:, None]).sum(1))
        return (log_sum - z[rows, own]).sum() + (u**2 / WIDTHS**2).sum() / 2

    for _ in range(200):
        b = MEDIANS * np.exp(TIE @ u)
        z = scores @ b
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = np.einsum("nc,nch->nh", p, scores)
        g = (mean - scores[rows, own]).sum(0)
        V = np.einsum("nc,nch,nck->hk", p, scores, scores) - mean.T @ mean
        gradient = TIE.T @ (g * b) + u / WIDTHS**2
        curvature = TIE.T @ (V * np.outer(b, b) + np.diag(np.maximum(g * b, 0))) @ TIE + np.diag(
            1 / WIDTHS**2
        )
        step, t = np.linalg.solve(curvature, gradient), 1.0
        while t > 1e-12 and value(u - t * step) > value(u):
            t /= 2
        if np.abs(step).max() < 1e-13 or t <= 1e-12:
            break
        u = u - t * step
    return MEDIANS * np.exp(TIE @ u)


def few(n):
    """Under n examples a label the best scale of the medians falls like this (see pool.c)."""
    return np.maximum(n, 1) ** -0.7


def numbers(a):
    return " ".join(repr(float(v)) for v in np.asarray(a).ravel())


def main():
    events = make_events()
    queries = np.array([vector(i % 6) for i in range(8)])
    s = Set(events)
    state = State(s)
    active = [c for c in range(LABELS) if state.n[c] > 0]
    count = 0.05 * state.N * state.kappa / state.n[active]
    scores, own, near, left = left_out(s, state, active, count)
    assert len(active) <= 18  # above that the medians lean back: tests/unit/test_head.c has that case by hand
    b = fit(scores, own) * np.exp(0.6 * (few(left).mean() - few(state.n[active]).mean()))
    ridge = scores[:, :, 0].max(1)
    novelty = [ridge.mean(), ridge.std() + 1e-12, near.mean(), near.std() + 1e-12]

    def strange(ridge, near):
        return -((ridge - novelty[0]) / novelty[1] + (near - novelty[2]) / novelty[3])

    print("settings", D, M, SEED, LAM, "events", len(events), "queries", len(queries))
    for ident, weight, target, x in events:
        print(
            "event",
            ident,
            weight,
            len(target),
            " ".join(f"{c} {v}" for c, v in target.items()),
            numbers(x),
        )
    print("state", LABELS, numbers(state.n), numbers(state.W), numbers(state.A))
    print("P", numbers(state.P))
    print(
        "beta",
        numbers(b),
        "novelty",
        numbers(novelty),
        "threshold",
        float(np.quantile(strange(ridge, near), 1 - BUDGET)),
    )
    print("R", numbers(R[0, :8]))
    print("active", len(active), " ".join(map(str, active)))
    answer, C = five_scores(queries, state, active, s, count)
    z = answer @ b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    for q in range(len(queries)):
        mean = mean_of_five(C[q], len(s.w))
        print(
            "query",
            numbers(queries[q]),
            float(strange(answer[q, :, 0].max(), mean)),
            numbers(p[q]),
            numbers(answer[q]),
        )


main()
