"""What the tests of backup, doctor and export share: learnctl on a state folder, a daemon that has
learned something, and its answers."""
import os
import shutil
import subprocess
from pathlib import Path

from learnd_process import ROOT

OK, REFUSED, USAGE, FAILED = range(4)
PROBES = ["where is my card", "my purse is gone", "the weather is fine", "hello", "card lost"]
LESSONS = [("where is my card", "card"), ("my card has not come", "card"),
           ("when will the new card arrive", "card"), ("the card is still not here", "card"),
           ("I lost my wallet", "lost"), ("someone took my purse", "lost"),
           ("my bag was stolen on the train", "lost"), ("I cannot find my wallet", "lost")]


def learnctl():
    path = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    assert path.exists(), f"{path} is not there: make all"
    return str(path)


def environment(extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LEARNCTL_", "LEARND_STATE"))}
    env.update(extra or {})
    return env


def ctl(*args, code=OK, daemon=None, env=None, stdin="", preexec=None, timeout=300):
    """(stdout, stderr) of learnctl, which must end with code."""
    url = ["--url", daemon.url] if daemon else []
    done = subprocess.run([learnctl(), *url, *map(str, args)], env=environment(env), input=stdin,
                          capture_output=True, text=True, timeout=timeout, check=False,
                          preexec_fn=preexec)
    assert done.returncode == code, (args, done)
    return done.stdout, done.stderr


def scores(daemon, model="default", probes=None):
    answer = daemon.ask(probes or PROBES, top_k=20, model=model)
    return answer["version"], [(r["label"], r["confident"] if "confident" in r else None,
                                [(s["label"], s["score"]) for s in r["labels"]])
                               for r in answer["results"]]


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def copy_of(folder, to):
    shutil.copytree(folder, to, symlinks=True)
    return to
