"""The part `runs` of bench.py: what fine-tuning costs those who ask meanwhile, what a swap costs them, and whether memory
stays as it was. Every line is a ratio of figures of one load on one machine.

A load is the open loop of `learnctl bench`, which notes each answer with its moment and version; what the daemon was doing at that
moment is noted here, by the same clock.
"""
import json
import math
import statistics
import subprocess
import sys
import time

TAUGHT, SWAPS, SMALL = 3000, 100, 154
ENDED = ("accepted", "refused", "failed", "cancelled")


def percentile(values, share):
    return sorted(values)[int(len(values) * share)] if values else math.nan


class Load:
    """Questions at an even rate in the background; answers() once it has ended."""

    def __init__(self, load_command, daemon, texts, folder, rate, model):
        self.path = f"{folder}/answers.csv"
        self.process = subprocess.Popen(
            load_command(daemon, texts, model, "--connections", 32, "--seconds", 900, "--rate",
                         f"{rate:.1f}", "--dump", self.path),
            stdout=subprocess.DEVNULL)

    def answers(self):
        """[(begun_s, ms, text, encoder, score)]; each was checked."""
        self.process.terminate()
        if self.process.wait() != 0:
            sys.exit("an answer was not as it should be")
        got = []
        with open(self.path) as file:
            for line in file:
                begun_us, ms, text, version, score = line.rstrip().split(",")
                got.append((int(begun_us) / 1e6, float(ms), int(text), int(version.split(".")[0]),
                            float(score)))
        return got


def lines(path, most):
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return rows[::max(1, len(rows) // most)][:most]


def teach(daemon, model, rows, features=None):
    settings = {} if features is None else {"features": features}
    daemon.call("/v1/models", {"name": model, "settings": settings})
    body = "".join(json.dumps({"model": model, "wait": "applied", "text": r["text"],
                               "label": r["label"]}) + "\n" for r in rows).encode()
    if daemon.call("/v1/feedback", body, "application/x-ndjson")["rejected"]:
        sys.exit("the import was not taken whole")
    settle(daemon, model)


def settle(daemon, model):
    while not daemon.get(f"/v1/models/{model}")["settled"]:
        time.sleep(0.05)


def run_to_end(daemon, model, phases=None, **settings):
    """A run's row at its end. phases: gets (phase, from, to) in seconds."""
    run = daemon.call(f"/v1/models/{model}/runs", settings)
    phase, since = run["phase"], time.monotonic()
    while run["state"] not in ENDED:
        time.sleep(0.02)
        run = daemon.get(f"/v1/runs/{run['run']}")
        if run["phase"] != phase:
            if phases is not None:
                phases.append((phase, since, time.monotonic()))
            phase, since = run["phase"], time.monotonic()
    if run["state"] != "accepted":
        sys.exit(f"a forced run was not accepted: {run['reason']}")
    return run


def answered_meanwhile(bench, daemon, model, texts, folder, rate):
    """/v1/classify at half of saturation: the run's phases against the time before and after."""
    load = Load(bench.load_command, daemon, texts, folder, rate, model)
    phases = []
    time.sleep(1)  # the connections and the lanes are warm
    begun = time.monotonic()
    time.sleep(8)
    without = [(begun, time.monotonic())]
    run = run_to_end(daemon, model, phases, strategy="joint", steps_max=60, force=True)
    settle(daemon, model)
    begun = time.monotonic()
    time.sleep(8)
    without.append((begun, time.monotonic()))
    got = load.answers()
    quiet = [ms for at, ms, *_ in got if any(a <= at < b for a, b in without)]
    busy = [ms for at, ms, *_ in got if phases[0][1] <= at < phases[-1][2]]
    told = ["%s %.1f s, p99 %.1f" % (phase, b - a, percentile(
        [ms for at, ms, *_ in got if a <= at < b], 0.99)) for phase, a, b in phases if b - a > 0.5]
    ratio = percentile(busy, 0.99) / percentile(quiet, 0.99)
    bench.report(f"p99 at {rate:.0f}/s (half) while a run is under way",
                 f"{percentile(busy, 0.99):.2f} ms", f"<= 2 x {percentile(quiet, 0.99):.2f} ms",
                 ratio, ratio <= 2)
    bench.report("median of the same", f"{statistics.median(busy):.2f} ms",
                 f"{statistics.median(quiet):.2f} ms without",
                 statistics.median(busy) / statistics.median(quiet))
    speed = run["progress"]["examples_per_s"]
    bench.report("the run meanwhile", f"{speed:.0f} examples/s", "")
    print("    ms by phase: " + "; ".join(told), flush=True)


def switch(daemon, model, encoder):
    """(from, to) of the time in which the encoder was made live."""
    begun = time.monotonic()
    daemon.call(f"/v1/models/{model}/rollback", {"encoder": encoder})
    while not daemon.get(f"/v1/models/{model}")["version"].startswith(f"{encoder}."):
        time.sleep(0.01)
        if time.monotonic() - begun > 60:
            sys.exit(f"encoder {encoder} does not become live")
    return begun, time.monotonic()


def mixed(got):
    """Answers whose score is that of the other encoder: nearer to its usual one for the text than to their own's."""
    usual = {}
    for _, _, text, encoder, score in got:
        usual.setdefault((text, encoder), []).append(score)
    usual = {key: statistics.median(scores) for key, scores in usual.items()}
    others = {a: b for (_, a) in usual for (_, b) in usual if a != b}
    return sum(abs(score - usual[text, encoder]) > abs(score - usual.get((text, others[encoder]), 9))
               for _, _, text, encoder, score in got)


def swaps(bench, daemon, model, texts, folder, rate, encoder):
    load = Load(bench.load_command, daemon, texts, folder, rate, model)
    time.sleep(1)
    spans = []
    for i in range(SWAPS):
        spans.append(switch(daemon, model, (0, encoder)[i % 2]))
        time.sleep(0.1)  # so that some time is without
    got = load.answers()
    limit = 3 * statistics.median(ms for _, ms, *_ in got)
    inside = [ms for at, ms, *_ in got if any(a < at + ms / 1e3 and at < b for a, b in spans)]
    slow_in = sum(ms > limit for ms in inside)
    slow_out = sum(ms > limit for _, ms, *_ in got) - slow_in
    outside = len(got) - len(inside)
    share = slow_out / outside if outside else 0
    expected = share * len(inside)  # what was as slow without a swap is not of the swap
    bench.report(f"slower than 3 x the median because of {SWAPS} swaps",
                 f"{slow_in} of {len(inside)}", f"<= {expected:.0f} as without", None,
                 slow_in <= expected + 3 * math.sqrt(expected))
    swapped = statistics.median(b - a for a, b in spans)
    print(f"    a swap is ready in {swapped * 1e3:.0f} ms (median); {slow_out} of {outside} outside of swaps are as "
          f"slow; median {limit / 3:.2f} ms, slowest inside {max(inside):.1f} ms", flush=True)
    wrong = mixed(got)
    bench.report("answers with another encoder's score, or none", str(wrong), "0", None, wrong == 0)


def least_rss(daemon):
    """A run's row says accepted a moment before the run's own memory is given back."""
    seen = []
    for _ in range(20):
        seen.append(daemon.rss_mb())
        time.sleep(0.05)
    return min(seen)


def memory(bench, folder, train):
    """Resident memory after 20 short runs against after 2."""
    daemon = bench.Daemon(folder)
    try:
        teach(daemon, "short", lines(train, SMALL), features=256)
        after = {}
        for i in range(1, 21):
            run_to_end(daemon, "short", strategy="joint", steps_max=10, seed=i, force=True)
            settle(daemon, "short")
            after[i] = least_rss(daemon)
        ratio = after[20] / after[2]
        bench.report("resident memory after 20 runs", f"{after[20]:.0f} MB",
                     f"<= 1.05 x {after[2]:.0f} MB", ratio, ratio <= 1.05)
        print("    MB after run 1, 2, ..: " + " ".join(f"{mb:.0f}" for mb in after.values()),
              flush=True)
        daemon.stop()
    finally:
        daemon.kill()


def measure(bench, texts, train, folder):
    """bench: .Daemon(state), .report(..), .saturation(daemon, texts, model), .http, .state(name)."""
    daemon = bench.Daemon(bench.state("runs"))
    try:
        teach(daemon, "runs", lines(train, TAUGHT))
        rate = bench.saturation(daemon, texts, "runs") / 2
        answered_meanwhile(bench, daemon, "runs", texts, folder, rate)
        few = f"{folder}/few.jsonl"
        with open(few, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in lines(texts, 64))
        teach(daemon, "swaps", lines(train, SMALL))
        run = run_to_end(daemon, "swaps", strategy="joint", steps_max=20, force=True)
        swaps(bench, daemon, "swaps", few, folder, rate, run["encoder"])
        daemon.stop()
    finally:
        daemon.kill()
    memory(bench, bench.state("memory"), train)
