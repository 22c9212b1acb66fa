#!/usr/bin/env python3
"""A step of fine-tuning beside PyTorch's (bf16 autocast, AdamW) on the same texts, threads and machine. By hand, minutes.

Two PyTorchs, each a process of its own so that its peak memory is its own: `file order`, a plain loop as one writes it
first (batches as they come, padded, the library's attention), and `length-sorted`, the best that a day of tuning made of
it (batches of like lengths, attention spelled out, whose backward is the quicker one for short texts, and the table of
words cut to those in use). Round after round each takes the same texts once, by turns with bench_train, so that whatever
else the machine does meets all. Needs the venv that peers.py makes. A machine that is busy with other work hurts threads
that spin at barriers, as PyTorch's do by default and ours do not: OMP_WAIT_POLICY=passive in the environment is theirs too.

Usage: tests/bench/peers_train.py [--rounds N] [--texts N] [--threads N] [--build DIR]
"""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PYTHON = f"{CACHE}/learnd/peers-venv/bin/python"
ENCODER = os.environ.get("LEARND_ENCODER") or f"{CACHE}/learnd/all-MiniLM-L6-v2"
SHARED = os.environ.get("LEARND_SHARED") or "../shared"
TEXTS = f"{SHARED}/data/banking77/train.jsonl"
BATCH = 32
ORDERS = {"file order": 3.0, "length-sorted": 1.2}  # targets of ours / PyTorch


# ---- a PyTorch, in a process of its own ------------------------------------------------------------


def batches(torch, rows, order):
    """[(ids, mask, labels)], padded to the longest text of each."""
    if order == "length-sorted":
        rows = sorted(rows, key=lambda row: len(row[0]))
    packs = []
    for at in range(0, len(rows) - BATCH + 1, BATCH):
        part = rows[at:at + BATCH]
        longest = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in part])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in part])
        packs.append((ids, mask, torch.tensor([label for _, label in part])))
    random.Random(0).shuffle(packs)
    return packs


def cut_words(torch, encoder, rows):
    """Leaves the rows of the table that some text uses; the texts count in those."""
    used = sorted({0} | {i for ids, _ in rows for i in ids})
    place = {word: i for i, word in enumerate(used)}
    table = encoder.embeddings.word_embeddings.weight.data[used]
    encoder.embeddings.word_embeddings = torch.nn.Embedding.from_pretrained(table, freeze=False)
    return [([place[i] for i in ids], label) for ids, label in rows]


def peer(order, path, threads):
    """Prints "ready", then for every line on stdin the seconds of a pass; at the end its peak memory in MB."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    import torch
    import transformers
    from tokenizers import Tokenizer
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = Tokenizer.from_file(f"{ENCODER}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    items = [json.loads(line) for line in open(path)]
    labels = {label: i for i, label in enumerate(sorted({item["label"] for item in items}))}
    rows = [(e.ids, labels[item["label"]]) for e, item in
            zip(tokenizer.encode_batch([item["text"] for item in items]), items)]
    kind = "eager" if order == "length-sorted" else "sdpa"
    encoder = transformers.AutoModel.from_pretrained(
        ENCODER, dtype=torch.float32, attn_implementation=kind, add_pooling_layer=False).train()
    if order == "length-sorted":
        rows = cut_words(torch, encoder, rows)
    head = torch.nn.Linear(encoder.config.hidden_size, len(labels))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-5)

    def step(ids, mask, wanted):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            logits = head((hidden * weight).sum(1) / weight.sum(1))
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    packs = batches(torch, rows, order)
    for pack in packs[:8]:
        step(*pack)
    print(f"ready {torch.__version__}", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        last = [step(*pack) for pack in packs][-1]
        print(f"{time.perf_counter() - started}" if last == last else "nan", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


# ---- by turns --------------------------------------------------------------------------------------


class Peer:
    def __init__(self, order, path, threads):
        self.process = subprocess.Popen([PYTHON, __file__, "--peer", order, "--file", path, "--threads", str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self.line().split()[1]

    def line(self):
        line = self.process.stdout.readline()
        if not line or line == "nan\n":
            sys.exit("a PyTorch ended, or its loss was not a number")
        return line

    def seconds(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.line())

    def memory_mb(self):
        self.process.stdin.close()
        return float(self.line())


def ours(args, path):
    """examples/s, share of oneDNN's peak, MB"""
    text = subprocess.run([f"{args.build}/tests/bench/bench_train", "--texts", path, "--texts-max", "0", "--threads",
                           str(args.threads), "--passes", "1", "--csv"], check=True, text=True, stdout=subprocess.PIPE,
                          env={**os.environ, "OMP_WAIT_POLICY": "passive", "LEARND_ENCODER": ENCODER}).stdout.split(",")
    return float(text[0]), float(text[2]), float(text[3])


def tell(what, measured, target, ratio, ok):
    print("%-52s %18s %24s %8.3f %s" % (what, measured, target, ratio, "ok" if ok else "MISSED"), flush=True)


def compare(args, path, texts):
    peers = {order: Peer(order, path, args.threads) for order in ORDERS}
    version = next(iter(peers.values())).version
    got = {order: [] for order in (*ORDERS, "ours")}
    for _ in range(args.rounds):
        got["ours"].append(ours(args, path))
        for order, other in peers.items():
            got[order].append(texts / other.seconds())
    print(f"PyTorch {version}, {args.threads} threads, {texts} texts, medians of {args.rounds} rounds")
    memory = statistics.median(mb for _, _, mb in got["ours"])
    for order, target in ORDERS.items():
        ratio = statistics.median(a / b for (a, _, _), b in zip(got["ours"], got[order]))
        tell(f"training examples/s, PyTorch {order}", f"{statistics.median(a for a, _, _ in got['ours']):.0f}/s",
             f">= {target} x {statistics.median(got[order]):.0f}/s", ratio, ratio >= target)
    for order in ORDERS:
        other = peers[order].memory_mb()
        tell(f"peak memory, PyTorch {order}", f"{memory:.0f} MB", f"<= 0.5 x {other:.0f} MB", memory / other,
             memory / other <= 0.5)
    share = statistics.median(share for _, share, _ in got["ours"])
    tell("of oneDNN's bare matmul", f"{share:.3f}", ">= 0.50", share, share >= 0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=960)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--build", default="build")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer, args.file, args.threads)
        return
    if not os.path.exists(PYTHON) or not os.path.exists(TEXTS):
        print(f"SKIPPED: no {PYTHON} (run tests/bench/peers.py once), or no {TEXTS}")
        sys.exit(77)
    lines = open(TEXTS).read().splitlines()
    random.Random(1).shuffle(lines)  # the file is sorted by label
    texts = args.texts // BATCH * BATCH
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(lines[:texts]) + "\n")
        file.flush()
        compare(args, file.name, texts)


main()
