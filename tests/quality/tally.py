"""What the scripts of this folder print: a line a cell, held against its target, and `N passed, N failed` at the end."""
import os
import sys

from daemon import ENCODER, SHARED


def need(*sets):
    """Says so and ends with 77 where a set or the default encoder is not there."""
    if not all(os.path.exists(os.path.join(SHARED, "data", name, "train.jsonl")) for name in sets) or \
            not os.path.exists(os.path.join(ENCODER, "model.safetensors")):
        print(f"SKIPPED: no sets in {SHARED}/data, or no encoder in {ENCODER} (deploy/model.sh)")
        sys.exit(77)


class Tally:
    """targets: (cell, name) -> (comparison, target)."""

    def __init__(self, targets=None, name_width=10, cell_width=36):
        self.targets, self.widths = targets or {}, (name_width, cell_width)
        self.passed = self.failed = 0

    def line(self, ok, text):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(f"{text}  {'ok' if ok else 'MISSED'}", flush=True)

    def check(self, cell, name, ok, words=""):
        self.line(ok, f"{name:{self.widths[0]}} {cell:{self.widths[1]}} {words}")

    def tell(self, cell, name, value):
        head = f"{name:{self.widths[0]}} {cell:{self.widths[1]}}"
        how, target = self.targets.get((cell, name), (None, None))
        if how is None:
            print(f"{head} {value:8.2f}", flush=True)
            return
        form = ("8.2g", "5.2g") if target < 0.01 else ("8.2f", "5.2f")
        self.line(value >= target if how == ">=" else value <= target,
                  f"{head} {value:{form[0]}}  {how} {target:{form[1]}}")

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
