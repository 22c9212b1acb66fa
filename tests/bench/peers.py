#!/usr/bin/env python3
"""The encoder beside PyTorch (bf16, fp32) and onnxruntime (fp32) on the same texts, one thread each. By hand.

First installs torch, transformers, onnx and onnxruntime in a venv of its own in the cache folder ($XDG_CACHE_HOME or
~/.cache, learnd/peers-venv; some 5 GB: the torch that PyPI has loads CUDA's libraries even to work on a CPU). Then, round after
round, each engine in turn runs for a second on one core, so that whatever else the machine does meets all of them; the
figures are medians. Texts are tokenized beforehand for everyone. The peers pad a batch to its longest text, so they are
also run on batches sorted by length; learnd packs and does not care. That a peer's vectors have unit length is checked.

Usage: tests/bench/peers.py [--rounds N] [--seconds S] [--build DIR]
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ap = argparse.ArgumentParser()
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--seconds", type=float, default=1.0)
ap.add_argument("--build", default="build")
args = ap.parse_args()

CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
VENV = f"{CACHE}/learnd/peers-venv"
ENCODER = os.environ.get("LEARND_ENCODER") or f"{CACHE}/learnd/all-MiniLM-L6-v2"
SHARED = os.environ.get("LEARND_SHARED") or "../shared"
TEXTS = f"{SHARED}/data/banking77/test.jsonl"
PACKAGES = ["torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy"]


def enter_venv():
    """Goes on in the venv's own python, made and filled if it is not there."""
    python = f"{VENV}/bin/python"
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    probe = "import torch, transformers, onnx, onnxruntime"
    if subprocess.run([python, "-c", probe], stderr=subprocess.DEVNULL).returncode != 0:
        print(f"installing {' '.join(PACKAGES)} in {VENV}", flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    os.environ["LEARND_PEERS"] = "1"
    os.execv(python, [python, __file__, *sys.argv[1:]])


if os.environ.get("LEARND_PEERS") != "1":
    enter_venv()

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


def torch_engine(dtype):
    model = transformers.AutoModel.from_pretrained(ENCODER, dtype=dtype).eval()

    def run(ids, mask):
        with torch.inference_mode():
            i, m = torch.from_numpy(ids), torch.from_numpy(mask)
            hidden = model(input_ids=i, attention_mask=m).last_hidden_state
            weight = m.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1)
            return torch.nn.functional.normalize(mean.float(), dim=1).numpy()
    return run


def onnx_engine(folder):
    path = f"{folder}/encoder.onnx"
    model = transformers.AutoModel.from_pretrained(
        ENCODER, dtype=torch.float32, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.full((2, 9), 2000)
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(Hidden(), (ids, torch.ones_like(ids)), path, dynamo=False, opset_version=17,
                      input_names=["ids", "mask"], output_names=["hidden"],
                      dynamic_axes={"ids": axes, "mask": axes, "hidden": axes})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(ids, mask):
        hidden = session.run(None, {"ids": ids, "mask": mask})[0]
        weight = mask[:, :, None].astype(np.float32)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return run


def batches(rows, size, in_order):
    rows = sorted(rows, key=len) if in_order else rows
    packs = []
    for at in range(0, len(rows) - size + 1, size):
        part = rows[at:at + size]
        ids = np.zeros((size, max(map(len, part))), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(part):
            ids[i, :len(row)] = row
            mask[i, :len(row)] = 1
        packs.append((ids, mask))
    np.random.default_rng(0).shuffle(packs)
    return packs


def rate(run, packs, at):
    """Texts a second over about args.seconds; goes on where the last round stopped."""
    started, texts = time.perf_counter(), 0
    while time.perf_counter() - started < args.seconds:
        vectors = run(*packs[at[0] % len(packs)])
        at[0] += 1
        texts += len(vectors)
    took = time.perf_counter() - started
    if abs(float(np.linalg.norm(vectors, axis=1).max()) - 1) > 1e-2:
        sys.exit("a peer's vectors are not unit vectors")
    return texts / took


def learnd(folder):
    """{batch: texts/s of one lane} of one short run."""
    path = f"{folder}/learnd.csv"
    subprocess.run([f"{args.build}/tests/bench/bench_encoder", "--encoder", ENCODER, "--texts",
                    TEXTS, "--rounds", "3", "--csv", path], check=True, stdout=subprocess.DEVNULL)
    with open(path) as file:
        return {line["what"]: float(line["texts_s"]) for line in csv.DictReader(file)}


def main():
    tokenizer = Tokenizer.from_file(f"{ENCODER}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    texts = [json.loads(line)["text"] for line in open(TEXTS)]
    rows = [e.ids for e in tokenizer.encode_batch(texts)]
    np.random.default_rng(1).shuffle(rows)
    cases = [(1, False), (8, False), (8, True), (32, False), (32, True)]
    packs = {case: batches(rows, *case) for case in cases}
    got, starts = {}, {}
    with tempfile.TemporaryDirectory(prefix="learnd-peers-") as folder:
        engines = {f"PyTorch {torch.__version__} bf16": torch_engine(torch.bfloat16),
                   f"PyTorch {torch.__version__} fp32": torch_engine(torch.float32)}
        try:
            engines[f"onnxruntime {onnxruntime.__version__} fp32"] = onnx_engine(folder)
        except Exception as error:  # whatever an exporter raises: the others still count
            print(f"onnxruntime is left out: the export failed: {str(error)[:300]}")
        for _ in range(args.rounds):
            ours = learnd(folder)
            for case in cases:
                got.setdefault(("learnd bf16", case), []).append(ours[f"batch {case[0]}"])
                for name, run in engines.items():
                    texts_s = rate(run, packs[case], starts.setdefault((name, case), [0]))
                    got.setdefault((name, case), []).append(texts_s)
    print(f"\ntexts/s, one thread, medians of {args.rounds} rounds; in brackets learnd's ratio to it")
    heads = [f"{size} {'sorted' if in_order else 'unsorted'}" for size, in_order in cases]
    print("%-26s" % "" + "".join("%16s" % head for head in heads))
    for name in ("learnd bf16", *engines):
        line = "%-26s" % name
        for case in cases:
            ratios = [a / b for a, b in zip(got[("learnd bf16", case)], got[(name, case)])]
            line += "%16s" % (f"{statistics.median(got[(name, case)]):.0f} "
                              f"({statistics.median(ratios):.2f})")
        print(line)


main()
