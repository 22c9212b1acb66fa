#!/usr/bin/env python3
"""Writes the parts of the man pages that the programs know best, between their marks: the commands and flags of learnctl out
of its --help, the flags of learnd out of its --help, the settings out of deploy/learnd.conf. The rest is written by hand.
Usage: deploy/man/update.py [--check] [--build DIR]   (--check: changes nothing, ends with 1 if a page is not up to date)
"""
import argparse
import re
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent


def told(*command):
    return subprocess.run([str(c) for c in command], check=True, text=True, stdout=subprocess.PIPE).stdout


def escape(text):
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e"))


def prose(text):
    """A sentence begins a line, and no line is long: what mandoc wants of a source."""
    lines = []
    for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(text.split())):
        lines += [escape(x) for x in textwrap.wrap(sentence, 76, break_long_words=False, break_on_hyphens=False)]
    return lines


def literal(lines):
    return [".Bd -literal -offset indent", *[escape(x) for x in lines], ".Ed"]


def flags(text):
    """[(letter or "", name, value or "", help)] of a help's lines."""
    found = []
    for line in text.splitlines():
        flag = re.match(r"  (?:-(\w), |    )--([a-z-]+)(?: (\S+))?(?: +(.*))?$", line)
        if flag:
            found.append([flag[1] or "", flag[2], flag[3] or "", flag[4] or ""])
        elif found and re.match(r" {20,}\S", line):
            found[-1][3] += " " + line.strip()
    return found


def item(letter, name, value):
    words = ([f"Fl {letter} ,"] if letter else []) + [f"Fl -{name}"] + ([f"Ar \\&{value}"] if value else [])
    return ".It " + " ".join(words)


def flag_list(found):
    out = [".Bl -tag -width Ds"]
    for letter, name, value, what in found:
        out += [item(letter, name, value), *prose(what)]
    return [*out, ".El"]


def commands(learnctl):
    help_text = told(learnctl, "--help")
    out = []
    for name in re.findall(r"^  ([a-z][a-z-]+) +\S", help_text, re.M):
        text = told(learnctl, name, "--help").split("`learnctl --help`")[0]
        usage, summary, *rest = re.split(r"\n\n", text, maxsplit=1)[0], *text.split("\n\n", 1)[1].split("\n")
        more = [x for x in rest if not re.match(r"  (-\w, |    )--| {20,}\S", x)]
        own = flags("\n".join(rest))
        out += [f".Ss {name}", summary[0].upper() + summary[1:] + "."]
        usage = usage.replace("usage: ", "", 1).splitlines()
        out += literal(x.removeprefix("       ").rstrip() for x in usage)
        if " ".join(more).strip():
            out += prose(" ".join(more))
        out += flag_list(own) if own else []
    return out


def global_flags(learnctl):
    return flag_list(flags(told(learnctl, "--help")))


def settings(conf):
    """The settings of learnd.conf with the comment above each, and its example or default."""
    out, comment = [".Bl -tag -width Ds"], []
    for line in conf.read_text().splitlines():
        setting = re.match(r"(?:# )?([a-z][a-z0-9-]+) = (.*)$", line)
        if setting:
            out += [f".It Ic {setting[1]} No = Ar \\&{setting[2]}", *prose(" ".join(comment))]
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment = []
    return [*out, ".El"]


def daemon_flags(learnd):
    usage = told(learnd, "--help").split("\n\n")[0]
    out = [".Bl -tag -width Ds"]
    for name, value in re.findall(r"\[--([a-z0-9-]+)(?: ([^\]]+))?\]", usage):
        what = {"config": "Reads settings from this file.",
                "check-config": "Says what is wrong with the configuration, and where, and ends.",
                "help": "Prints the usage and ends.", "version": "Prints the version and ends."}
        out += [item("", name, value.replace("\n", " ")),
                what.get(name) or f"The setting\n.Ic {name}\nof\n.Xr learnd.conf 5 ."]
    return [*out, ".El"]


def fill(page, parts):
    lines, skipping = [], False
    for line in page.read_text().splitlines():
        if line == '.\\" end':
            skipping = False
        if not skipping:
            lines.append(line)
        mark = re.match(r'\.\\" begin: (\w+)', line)
        if mark:
            lines += parts[mark[1]]
            skipping = True
    return "\n".join(lines) + "\n"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--build", default=HERE.parents[1] / "build", type=Path)
    args = ap.parse_args()
    learnctl, learnd = args.build / "learnctl", args.build / "learnd"
    parts = {"commands": commands(learnctl), "flags": global_flags(learnctl),
             "daemon": daemon_flags(learnd), "settings": settings(HERE.parent / "learnd.conf")}
    stale = []
    for page in sorted(HERE.glob("learn*.[1-8]")):
        text = fill(page, parts)
        if text != page.read_text():
            stale.append(page.name)
            if not args.check:
                page.write_text(text)
    if stale:
        print(("not up to date: " if args.check else "written: ") + " ".join(stale))
    return 1 if stale and args.check else 0


sys.exit(main())
