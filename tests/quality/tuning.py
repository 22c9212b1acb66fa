#!/usr/bin/env python3
"""What a run makes of a model, on real sets through the HTTP interface of a running daemon. By hand; on two cores an hour:

    tests/quality/tuning.py [--only joint,sessions,sentiment,poison,kill] [--seeds 1,2,3] [--sets banking77,clinc150]

    joint      teach the train split, one `joint` run: accuracy on the test split before and after, ECE, the gate's words
    sessions   BANKING77 in 7 sessions of 11 labels with a run after each, under the default settings; and `naive`, and frozen
    sentiment  where frozen embeddings are weak: twitter_financial_news, and chnsenticorp with a Chinese encoder
    poison     an encoder tuned on shuffled labels is refused at the gate; forced past it, sent back by probation
    kill       kill -9 in the middle of a run: the weights' hash is that of a run left in peace

Prints one line a cell: what, measured, target, ok. Needs the sets in $LEARND_SHARED/data (default ../shared), the default encoder
(deploy/model.sh) and for chnsenticorp $LEARND_SHARED/models/bge-small-zh-v1.5; says so and ends with 77 without the first two.
The last line is `N passed, N failed`."""
import argparse
import os
import random
import signal
import statistics
import time

from daemon import SHARED, Daemon, rows
from quality import ece, pairs, shuffled
from tally import Tally, need

CHINESE = os.path.join(SHARED, "models/bge-small-zh-v1.5")
TARGETS = {("joint, accuracy after, mean", "banking77"): (">=", 93.8), ("joint, accuracy after, mean", "clinc150"): (">=", 96.4),
           ("joint, ECE after, mean", "banking77"): ("<=", 2.0), ("joint, ECE after, mean", "clinc150"): ("<=", 2.0),
           ("sessions, final accuracy", "banking77"): (">=", 93.5),
           ("sessions, average incremental accuracy", "banking77"): (">=", 95.3)}
tally = Tally(TARGETS, 22, 44)
tell, check = tally.tell, tally.check


def run_to_end(daemon, model, **settings):
    """Starts a run, waits for its end, says how it went. Returns its row."""
    path = f"/v1/models/{model}/{'import' if 'folder' in settings else 'runs'}"
    run = daemon.call("POST", path, settings)
    started = time.monotonic()
    while run["state"] in ("queued", "running"):
        time.sleep(0.2)
        run = daemon.call("GET", f"/v1/runs/{run['run']}")
    verdict = run["verdict"] or {}
    speed = (run["progress"] or {}).get("examples_per_s") or 0
    print(f"  run {run['run']}: {run['strategy']} {run['state']}{' (' + run['reason'] + ')' if run['reason'] else ''}, "
          f"{run['steps']} steps at {speed:.0f} examples/s, {time.monotonic() - started:.0f} s in all; held out "
          f"{verdict.get('accuracy_old') or 0:.4f} -> {verdict.get('accuracy_new') or 0:.4f} of {verdict.get('items', 0)}, won "
          f"{verdict.get('won')}, lost {verdict.get('lost')}, lower bound {verdict.get('lower') or 0:+.4f}, reasons "
          f"{verdict.get('reasons')}", flush=True)
    return run


def tuned(daemon, name, seed, test, features=2048, **settings):
    model = f"{name}-{seed}"
    daemon.create(model, features=features)
    daemon.teach(model, shuffled(pairs(rows(f"{name}/train.jsonl")), seed))
    daemon.settle(model)
    before, _ = daemon.accuracy(model, test)
    run = run_to_end(daemon, model, strategy="joint", seed=seed, **settings)
    daemon.settle(model)
    after, results = daemon.accuracy(model, test)
    return before, after, ece(results, test), run


def joint(daemon, args):
    for name in args.sets.split(","):
        test = rows(f"{name}/test.jsonl")
        got = []
        for seed in args.seeds:
            before, after, error, _ = tuned(daemon, name, seed, test)
            tell(f"joint, seed {seed}, accuracy before", name, before)
            tell(f"joint, seed {seed}, accuracy after", name, after)
            tell(f"joint, seed {seed}, ECE after", name, error)
            got.append((before, after, error))
            daemon.delete_model(f"{name}-{seed}")
        tell("joint, accuracy before, mean", name, statistics.mean(g[0] for g in got))
        tell("joint, accuracy after, mean", name, statistics.mean(g[1] for g in got))
        tell("joint, ECE after, mean", name, statistics.mean(g[2] for g in got))


def session_course(daemon, kind, seed):
    """R[i][j] and the incremental accuracies of one way through the sessions."""
    train, test = rows("banking77/train.jsonl"), rows("banking77/test.jsonl")
    labels = shuffled(sorted({r["label"] for r in train}), seed)
    session = {label: i // 11 for i, label in enumerate(labels)}
    model = f"sessions-{kind}"
    daemon.create(model, features=2048)
    matrix, incremental = [], []
    for i in range(7):
        daemon.teach(model, shuffled(pairs(r for r in train if session[r["label"]] == i), seed))
        daemon.settle(model)
        if kind == "naive":
            run_to_end(daemon, model, strategy="naive", seed=seed, force=True)
        elif kind != "frozen":
            run_to_end(daemon, model, strategy=kind, seed=seed)
        daemon.settle(model)
        seen = [r for r in test if session[r["label"]] <= i]
        results = daemon.ask(model, [r["text"] for r in seen])
        right = [[], [], [], [], [], [], []]
        for r, got in zip(seen, results):
            right[session[r["label"]]].append(got["label"] == r["label"])
        matrix.append([100 * sum(x) / len(x) for x in right[:i + 1]])
        incremental.append(100 * sum(map(sum, right)) / len(seen))
        print(f"  {kind}, after session {i + 1}: {incremental[-1]:.2f}", flush=True)
    forgetting = statistics.mean(max(matrix[t][j] for t in range(j, 7)) - matrix[6][j] for j in range(6))
    daemon.delete_model(model)
    return statistics.mean(incremental), incremental[-1], forgetting


def sessions(daemon, args):
    for kind in args.kinds.split(","):
        average, final, forgetting = session_course(daemon, kind, args.seeds[0])
        prefix = "sessions" if kind == "joint" else f"sessions, {kind}"
        tell(f"{prefix}, average incremental accuracy", "banking77", average)
        tell(f"{prefix}, final accuracy", "banking77", final)
        tell(f"{prefix}, forgetting", "banking77", forgetting)


def sentiment(daemon, args):
    test = rows("twitter_financial_news/test.jsonl")
    before, after, error, _ = tuned(daemon, "twitter_financial_news", args.seeds[0], test)
    tell("accuracy before", "twitter_financial_news", before)
    tell("accuracy after", "twitter_financial_news", after)
    tell("ECE after", "twitter_financial_news", error)
    check("a run helps", "twitter_financial_news", after > before)
    if not os.path.exists(os.path.join(CHINESE, "model.safetensors")):
        print(f"SKIPPED chnsenticorp: no {CHINESE}")
        return
    chinese = Daemon(encoder=CHINESE)
    try:
        test = rows("chnsenticorp/test.jsonl")
        before, after, error, _ = tuned(chinese, "chnsenticorp", args.seeds[0], test, epochs=1)
        tell("accuracy before", "chnsenticorp", before)
        tell("accuracy after, one epoch", "chnsenticorp", after)
        tell("ECE after", "chnsenticorp", error)
        check("a run helps", "chnsenticorp", after > before)
    finally:
        chinese.close()


def export_encoder(daemon, model, folder):
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    listing = daemon.call("GET", f"/v1/models/{model}/encoder")
    source = os.path.join(daemon.state, "encoders", str(listing["encoder"]))
    for f in listing["files"]:
        with open(os.path.join(source, f["name"]), "rb") as a, open(os.path.join(folder, f["name"]), "wb") as b:
            b.write(a.read())


def poison(daemon, args):
    seed = args.seeds[0]
    train = pairs(rows("banking77/train.jsonl"))
    labels = [r["label"] for r in train]
    random.Random(seed).shuffle(labels)
    daemon.create("poisoned", features=1024)
    daemon.teach("poisoned", [{"text": r["text"], "label": label} for r, label in zip(train, labels)])
    run_to_end(daemon, "poisoned", strategy="joint", seed=seed, epochs=2, lr=5e-4, force=True)
    folder = os.path.join(daemon.state, "..", os.path.basename(daemon.state) + "-poison")
    export_encoder(daemon, "poisoned", folder)
    daemon.create("sound", features=1024)
    daemon.teach("sound", train[::2])
    daemon.settle("sound")
    run = run_to_end(daemon, "sound", folder=folder)
    check("the gate refuses a poisoned encoder", "banking77", run["state"] == "refused", run["reason"] or "")
    run = run_to_end(daemon, "sound", folder=folder, force=True)
    check("it can be forced past the gate", "banking77", run["state"] == "accepted", run["reason"] or "")
    taught = 0
    for r in shuffled(train[1::2], seed)[:1000]:
        daemon.teach("sound", [r])
        taught += 1
        if daemon.call("GET", "/v1/models/sound")["version"].startswith("0."):
            break
    time.sleep(0.5)
    reason = daemon.call("GET", f"/v1/runs/{run['run']}")["reason"]
    check(f"probation sends it back after {taught} corrections", "banking77",
          daemon.call("GET", "/v1/models/sound")["version"].startswith("0."), reason)
    daemon.log.flush()
    with open(daemon.log.name, encoding="utf-8") as log:
        for line in log:
            if "at=trainer" in line or "rolled_back" in line:
                print("   ", line.rstrip())


def sha_of(daemon, model):
    encoders = daemon.call("GET", f"/v1/models/{model}/versions?limit=1")["encoders"]
    return max(encoders, key=lambda e: e["encoder"])["sha256"]


def kill(_, args):
    hashes = []
    for kills in (0, 2):
        daemon = Daemon()
        try:
            daemon.create("m", features=1024)
            daemon.teach("m", pairs(rows("banking77/train.jsonl"))[::4])
            daemon.settle("m")
            run = daemon.call("POST", "/v1/models/m/runs", {"seed": args.seeds[0], "epochs": 12, "force": True})
            for k in range(kills):  # past a checkpoint, which is kept once a minute
                while daemon.call("GET", f"/v1/runs/{run['run']}")["phase"] != "training":
                    time.sleep(0.2)
                time.sleep(65)
                at = daemon.call("GET", f"/v1/runs/{run['run']}")
                print(f"  kill -9 at step {at['step']} of {at['steps']}", flush=True)
                daemon.restart(signal.SIGKILL)
            while run["state"] in ("queued", "running"):
                time.sleep(0.3)
                run = daemon.call("GET", f"/v1/runs/{run['run']}")
            print(f"  {run['state']}, resumed {run['progress']['resumed']}, sha256 {sha_of(daemon, 'm')}", flush=True)
            hashes.append((sha_of(daemon, "m"), run["progress"]["resumed"]))
        finally:
            daemon.close()
    check("killed and resumed: the same weights", "banking77", hashes[0][0] == hashes[1][0] and hashes[1][1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="joint,sessions,sentiment,poison,kill")
    parser.add_argument("--sets", default="banking77,clinc150")
    parser.add_argument("--seeds", default="1,2,3", type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--kinds", default="joint,naive,frozen", help="of sessions; replay is one too")
    args = parser.parse_args()
    need("banking77")
    for part in args.only.split(","):
        daemon = Daemon()
        try:
            globals()[part](daemon, args)
        finally:
            daemon.close()
    tally.end()


if __name__ == "__main__":
    main()
