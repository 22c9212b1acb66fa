#!/usr/bin/env python3
"""Writes expected.txt: what transformers makes of a few texts with all-MiniLM-L6-v2. The format is
tiny-encoder's: how many and how long; then for each text its ids and segments, and its mean-pooled
unit vector. By hand, with torch and transformers:
    python tests/golden/minilm/make.py ~/.cache/learnd/all-MiniLM-L6-v2"""

import os
import sys

import torch
from transformers import BertModel, BertTokenizerFast

TEXTS = [
    "where is my card",
    "The quick brown fox jumps over the lazy dog.",
    "日本語 and ünïcödé",
    "a",
    " ".join(["I lost my card yesterday and the bank still has not sent a new one."] * 12),
]
model = BertModel.from_pretrained(sys.argv[1], attn_implementation="eager").eval()
tokenizer = BertTokenizerFast.from_pretrained(sys.argv[1])
with open(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.txt"), "w"
) as f, torch.no_grad():
    f.write(f"{len(TEXTS)} {model.config.hidden_size}\n")
    for text in TEXTS:
        e = tokenizer(text, return_tensors="pt")
        mean = model(**e).last_hidden_state[0].mean(0)
        ids = e.input_ids[0].tolist()
        f.write(f"{len(ids)} {' '.join(map(str, ids))} {' '.join('0' for _ in ids)}\n")
        f.write(" ".join(f"{x:.6g}" for x in (mean / mean.norm()).tolist()) + "\n")
