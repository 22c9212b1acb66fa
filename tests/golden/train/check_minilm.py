#!/usr/bin/env python3
"""Holds fine-tuning of all-MiniLM-L6-v2 against PyTorch, as test_train_golden does for the tiny
encoder, and prints the largest differences; then opens the weights that were written with
transformers and compares embeddings. By hand, with torch, transformers, safetensors, after `make
tests`:
    python tests/golden/train/check_minilm.py [FOLDER]"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
from make_train_golden import embed, load, make_case, packed, reference, settings
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
TOOL = os.environ.get("DUMP_TRAIN", os.path.join(ROOT, "build/tests/golden/train/dump_train"))
MINILM = os.path.expanduser("~/.cache/learnd/all-MiniLM-L6-v2")
TEXTS = [
    "My card has not arrived yet, and I ordered it two weeks ago.",
    "What is the exchange rate?",
    "top up",
    "I want to close my account because the fees are too high and nobody answers my questions.",
    "Why was I charged twice for the same payment?",
    "Can I change my PIN at any cash machine?",
    "lost phone",
    "The transfer to my landlord was declined although there was more than enough money in it.",
]


def against(folder, case, s, want, precision, work):
    """Runs the tool; prints the worst; returns the embeddings after ten steps."""
    out, weights = os.path.join(work, "out.safetensors"), os.path.join(work, "model.safetensors")
    subprocess.run([TOOL, folder, os.path.join(work, "case"), out, weights, precision], check=True)
    got = load_file(out)
    rows = []
    for name, w in want.items():
        if "key.bias" in name:  # 0 but for rounding
            continue
        w, g = w.double(), got[name].double()
        cosine = torch.nn.functional.cosine_similarity(w.flatten(), g.flatten(), dim=0)
        rows.append((float((g - w).abs().max() / w.abs().max()), float(cosine), name))
    print(f"{precision}: largest difference, of the largest value; cosine (tensors: {len(rows)})")
    for off, cosine, name in sorted(rows, reverse=True)[:6]:
        print(f"  {off:.2e}  {cosine:.7f}  {name}")
    for name in ("logits", "loss"):
        off = next(r for r in rows if r[2] == name)[0]
        print(f"  {name}: {off:.2e}")
    ten = ((got["losses"] - want["losses"]).abs() / want["losses"]).max()
    first, last = want["losses"][0], want["losses"][10]
    print(f"  ten AdamW losses: {float(ten):.2e} ({first:.4f} to {last:.4f})")
    return got["embeddings_after"].double()


def reopened(folder, case, mine, work):
    """The written weights in a copy of the folder, by transformers."""
    copy = os.path.join(work, "copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    shutil.copy(os.path.join(work, "model.safetensors"), copy)
    with torch.no_grad():
        theirs = embed(load(copy), case["ids"], case["types"])
    cosine = (theirs * mine).sum(-1).min()
    print(f"  written and opened by transformers: least cosine {float(cosine):.8f}")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else MINILM
    dim = json.load(open(os.path.join(folder, "config.json")))["hidden_size"]
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
    types = [[0] * len(row) for row in ids]
    for multi in (False, True):
        s = settings(multi, 5)
        s.update(lr=1e-4, head_lr=1e-3, weight_decay=0.01)
        case = make_case(ids, types, 5, dim, multi)
        print("sets of labels" if multi else "one label")
        with tempfile.TemporaryDirectory() as work:
            save_file(packed(case, s), os.path.join(work, "case"))
            want = reference(folder, case, s)
            for precision in ("fp32", "bf16"):
                mine = against(folder, case, s, want, precision, work)
                reopened(folder, case, mine, work)


if __name__ == "__main__":
    main()
