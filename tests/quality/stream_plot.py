#!/usr/bin/env python3
"""Accuracy over a stream, with a run and its swap in the middle, as a picture. By hand, on two quiet cores some minutes:

    tests/quality/stream_plot.py [--set clinc150] [--run-at 6000] [--every 500] [--seed 1] [--out tests/quality/stream.svg]

Streams the train split of CLINC150 (--set) in random order to a daemon, asks the whole test split every so many examples, and starts one
`joint` run while the stream goes on. All of the stream takes seconds and the run takes minutes, so while it is under way the examples
come slowly, by the run's own estimate of its end. The SVG reads in light and dark. Says so and ends with 77 without the set in
$LEARND_SHARED/data or the default encoder; ends with 1 if the gate refuses, for there is no swap to draw then."""
import argparse
import sys
import time

from daemon import Daemon, rows
from quality import pairs, shuffled
from tally import need

CHUNK = 100
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 56, 32, 44, 48


# ---- the stream ------------------------------------------------------------------------------------


class Course:
    """What was seen: (examples taught, accuracy, encoder that answered), and where the run began and went live."""

    def __init__(self):
        self.points, self.started, self.swapped, self.run, self.forced = [], None, None, None, False


def encoder_of(daemon):
    return int(daemon.call("GET", "/v1/models/m")["version"].split(".")[0])


def ask(daemon, course, test, taught):
    accuracy, _ = daemon.accuracy("m", test)
    course.points.append((taught, accuracy, encoder_of(daemon)))
    print(f"{taught:6} examples: {accuracy:.2f} by encoder {course.points[-1][2]}", flush=True)


def pace(daemon, course, left):
    """Waits before the next chunk so that what is left of the stream lasts about as long as the run, with a fifth to spare
    behind the swap."""
    run = daemon.call("GET", f"/v1/runs/{course.run}")
    if run["state"] not in ("queued", "running"):
        return
    eta = (run["progress"] or {}).get("eta_s")
    chunks = max(1, left // CHUNK - 15)
    until = time.monotonic() + ((eta + 5) / chunks if run["phase"] == "training" and eta else 2)
    while time.monotonic() < until and run["state"] in ("queued", "running"):
        time.sleep(0.1)
        run = daemon.call("GET", f"/v1/runs/{course.run}")


def stream(daemon, train, test, args):
    course = Course()
    for taught in range(0, len(train), CHUNK):
        if taught >= args.run_at and course.run is None:
            course.started = taught
            course.run = daemon.call("POST", "/v1/models/m/runs", {"strategy": "joint", "seed": args.seed,
                                                                          "force": args.force})["run"]
        if course.run is not None and course.swapped is None:
            pace(daemon, course, len(train) - taught)
            if encoder_of(daemon) != 0:
                ask(daemon, course, test, taught)
                course.swapped = taught
        daemon.teach("m", train[taught:taught + CHUNK])
        now = min(taught + CHUNK, len(train))
        if now % args.every == 0 or now == len(train):
            ask(daemon, course, test, now)
    run = daemon.call("GET", f"/v1/runs/{course.run}") if course.run is not None else None
    if run is None or course.swapped is None:
        sys.exit(f"no swap within the stream: {run and (run['state'], run['phase'], run['reason'], run['verdict'])}")
    course.forced = (run["reason"] or "").startswith("forced")
    return course


# ---- the picture -----------------------------------------------------------------------------------

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
  .axis { stroke: #888; stroke-width: 1 } .grid { stroke: #888; stroke-opacity: .25 } .mark { stroke: #888; stroke-dasharray: 4 4 }
  .before { stroke: #2a6fbb; fill: none; stroke-width: 2.5 } .after { stroke: #c2571a; fill: none; stroke-width: 2.5 }
  .dot-before { fill: #2a6fbb } .dot-after { fill: #c2571a } .run { fill: #888; fill-opacity: .14 }
  .name-before { fill: #2a6fbb } .name-after { fill: #c2571a }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .before { stroke: #7db4f0 } .after { stroke: #f0a06a } .dot-before, .name-before { fill: #7db4f0 }
    .dot-after, .name-after { fill: #f0a06a } }
"""


class Scale:
    def __init__(self, course):
        self.most = max(x for x, _, _ in course.points)
        values = [y for x, y, _ in course.points if x >= 1000]
        self.low, self.high = int(min(values) // 5 * 5), 98

    def x(self, taught):
        return LEFT + (WIDTH - LEFT - RIGHT) * taught / self.most

    def y(self, accuracy):
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - accuracy) / (self.high - self.low)


def axes(scale):
    out = []
    for accuracy in range(scale.low, scale.high + 1, 5 if scale.high - scale.low > 12 else 2):
        y = scale.y(accuracy)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{accuracy} %</text>')
    for taught in range(0, scale.most + 1, 2000):
        x = scale.x(taught)
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{taught:,}</text>')
    bottom = HEIGHT - BOTTOM
    out.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">examples taught</text>')
    return out


def curve(scale, points, kind):
    at = [(scale.x(x), scale.y(y)) for x, y, _ in points if y >= scale.low]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return [f'<polyline class="{kind}" points="{line}"/>',
            *(f'<circle class="dot-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at)]


def draw(course, test_len, name):
    scale = Scale(course)
    before = [p for p in course.points if p[2] == 0]
    after = [p for p in course.points if p[2] != 0]
    started, swapped = scale.x(course.started), scale.x(course.swapped)
    last_before, last = before[-1], after[-1]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
           f"<title>Accuracy on {name}'s test split over a stream of examples, with one fine-tuning run and its swap</title>",
           f"<style>{STYLE}</style>",
           f'<text class="title" x="{LEFT}" y="22">{name} streamed to one model: accuracy on {test_len:,} test texts</text>',
           f'<rect class="run" x="{started:.1f}" y="{TOP}" width="{swapped - started:.1f}" height="{HEIGHT - TOP - BOTTOM}"/>',
           *axes(scale),
           f'<line class="mark" x1="{swapped:.1f}" y1="{TOP}" x2="{swapped:.1f}" y2="{HEIGHT - BOTTOM}"/>',
           *curve(scale, before, "before"), *curve(scale, after, "after"),
           f'<text x="{(started + swapped) / 2:.1f}" y="{HEIGHT - BOTTOM - 28}" text-anchor="middle">a run, in the</text>',
           f'<text x="{(started + swapped) / 2:.1f}" y="{HEIGHT - BOTTOM - 12}" text-anchor="middle">background</text>',
           f'<text x="{swapped + 6:.1f}" y="{HEIGHT - BOTTOM - 12}">{"forced past its gate" if course.forced else "swap"}</text>',
           f'<text class="name-before" x="{swapped - 8:.1f}" y="{scale.y(last_before[1]) + 26:.1f}" text-anchor="end">the encoder it '
           f'came with: {last_before[1]:.1f} %</text>',
           f'<text class="name-after" x="{WIDTH - RIGHT}" y="{scale.y(last[1]) - 12:.1f}" text-anchor="end">its own: {last[1]:.1f} %'
           '</text>', "</svg>"]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="clinc150")
    parser.add_argument("--run-at", type=int, default=6000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="swap whatever the gate says; the picture tells")
    parser.add_argument("--texts", type=int, default=0, help="of the train split; 0: all")
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--out", default="tests/quality/stream.svg")
    args = parser.parse_args()
    need(args.set)
    train = shuffled(pairs(rows(f"{args.set}/train.jsonl")), args.seed)
    test = rows(f"{args.set}/test.jsonl")
    daemon = Daemon()
    try:
        daemon.create("m", features=args.features)
        course = stream(daemon, train[:args.texts or None], test, args)
    finally:
        daemon.close()
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(draw(course, len(test), args.set.upper()))
    print(f"run {course.run}: begun at {course.started}, live at {course.swapped}; {args.out}")


if __name__ == "__main__":
    main()
