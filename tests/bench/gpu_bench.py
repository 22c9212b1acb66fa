#!/usr/bin/env python3
"""learnd's encoder and training step on a card beside PyTorch's on the same card (make gpu-bench).

Two shapes, MiniLM (6 layers of 384) and BERT-base (12 of 768), with random weights: what is measured
is time. PyTorch: bf16, scaled-dot-product attention, torch.compile where it works, the better of
eager and compiled; `padded` is what a batch of mixed lengths costs it. `enqueued` is ours without
CUDA graphs. One row a line, CSV at the end. Exit 2 where there is no GPU; without torch the ratios are left out, and that is said.
"""
import argparse
import csv
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"minilm": (6, 384, 12, 1536), "bert-base": (12, 768, 12, 3072)}
VOCAB, POSITIONS = 30522, 512
SAMPLES = 51
# Dense bf16 peak of the cards that learnd is built for, from their data sheets, in FLOP/s.
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L4": 121e12}


def tensors(layers, width, inner):
    """Name -> shape, as a BERT folder has them."""
    shapes = {
        "embeddings.word_embeddings.weight": (VOCAB, width),
        "embeddings.position_embeddings.weight": (POSITIONS, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for n in range(layers):
        at = f"encoder.layer.{n}."
        for name, out, into in (("attention.self.query", width, width),
                                ("attention.self.key", width, width),
                                ("attention.self.value", width, width),
                                ("attention.output.dense", width, width),
                                ("intermediate.dense", inner, width),
                                ("output.dense", width, inner)):
            shapes[f"{at}{name}.weight"] = (out, into)
            shapes[f"{at}{name}.bias"] = (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{at}{name}.weight"] = (width,)
            shapes[f"{at}{name}.bias"] = (width,)
    return shapes


def write_folder(folder, layers, width, heads, inner):
    """config.json and model.safetensors with small random values: one block, read over and over."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCAB,
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": inner, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12}))
    rng = random.Random(1)
    block = struct.pack("<65536f", *(rng.gauss(0, 0.02) for _ in range(65536)))
    header, at, shapes = {}, 0, tensors(layers, width, inner)
    for name, shape in shapes.items():
        size = 4 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for tensor in header.values():
            begin, end = tensor["data_offsets"]
            size = end - begin
            f.write(block * (size // len(block)) + block[:size % len(block)])


def ours(tool, backend, folder):
    """(what, texts, tokens) -> microseconds, by tests/gpu/gpu_model."""
    done = subprocess.run([tool, "bench", backend, str(folder)], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"gpu-bench: {done.stderr.strip()}")
    rows = csv.DictReader(done.stdout.splitlines())
    return {(r["what"], int(r["texts"]), int(r["tokens"])): float(r["us"]) for r in rows}


def median_us(torch, call):
    times = []
    for i in range(-5, SAMPLES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if i >= 0:
            times.append((time.perf_counter() - start) * 1e6)
    return sorted(times)[SAMPLES // 2]


def torch_model(torch, layers, width, heads, inner):
    """A BERT encoder with a pooled, normalised output, in plain PyTorch."""
    nn, f = torch.nn, torch.nn.functional

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
            self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x, mask):
            b, t, _ = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            a = f.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = self.first(x + self.out(a.transpose(1, 2).reshape(b, t, width)))
            return self.second(x + self.down(f.gelu(self.up(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.place = nn.Embedding(VOCAB, width), nn.Embedding(POSITIONS, width)
            self.norm, self.layers = nn.LayerNorm(width), nn.ModuleList(
                Layer() for _ in range(layers))

        def forward(self, ids, mask, keep):
            x = self.norm(self.word(ids) + self.place.weight[:ids.shape[1]])
            for layer in self.layers:
                x = layer(x, mask)
            return f.normalize((x * keep).sum(1) / keep.sum(1), dim=-1)

    return Encoder().to("cuda", torch.bfloat16)


def batch(torch, lens):
    """ids, mask (None where nothing is padded), keep."""
    longest = max(lens)
    keep = torch.arange(longest, device="cuda")[None] < torch.tensor(lens, device="cuda")[:, None]
    ids = torch.randint(0, VOCAB, keep.shape, device="cuda")
    mask = None if min(lens) == longest else keep[:, None, None, :]
    return ids, mask, keep[..., None].to(torch.bfloat16)


def theirs(torch, shape, rows):
    """The same batches by PyTorch: the better of eager and compiled, and which it was."""
    model = torch_model(torch, *shape).eval()
    ways = {"eager": model}
    try:
        ways["compile"] = torch.compile(model, dynamic=False)
    except Exception as e:  # an installation without a compiler
        print(f"gpu-bench: torch.compile does not work here: {e}")
    result = {}
    for what, texts, tokens in rows:
        if what == "enqueued":
            continue
        if what == "train_step":
            result[what, texts, tokens] = train_us(torch, shape, texts, tokens), "eager"
            continue
        args = batch(torch, lens_of(what, texts, tokens))
        with torch.no_grad():
            timed = {}
            for name, way in ways.items():
                try:
                    timed[name] = median_us(torch, lambda w=way, a=args: w(*a))
                except Exception as e:
                    print(f"gpu-bench: {name} failed on {what}: {str(e)[:200]}")
        best = min(timed, key=timed.get)
        result[what, texts, tokens] = timed[best], best
    return result


def lens_of(what, texts, tokens):
    """Even batches as they are; `short` is 64 tokens, a few, and what is left spread evenly."""
    if what != "short":
        return [tokens // texts] * texts
    left, lens = tokens - 64, [64]
    for i in range(texts - 1, 0, -1):
        lens.append(max(1, left // i))
        left -= lens[-1]
    return lens


def train_us(torch, shape, texts, tokens):
    """Forward, backward and fused AdamW on fp32 parameters under bf16 autocast."""
    model = torch_model(torch, *shape).float().train()
    head = torch.nn.Linear(shape[1], 4).cuda()
    params = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)
    ids, mask, keep = batch(torch, [tokens // texts] * texts)
    target = torch.arange(texts, device="cuda") % 4

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(head(model(ids, mask, keep)), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return median_us(torch, step)


def share_of_peak(torch, shape, texts, tokens, us):
    """Of the card's bf16 peak, by the products of the layers alone; None: a card not in the list."""
    layers, width, _, inner = shape
    name = torch.cuda.get_device_name() if torch else ""
    peak = next((p for key, p in PEAKS.items() if key in name), None)
    each = tokens / texts
    flops = tokens * layers * (2 * (4 * width * width + 2 * width * inner) + 4 * each * width)
    return flops / (us * 1e-6) / peak if peak else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", default=ROOT / "build/tests/gpu/gpu_model")
    parser.add_argument("--backend", default=ROOT / "build/learnd-cuda.so")
    parser.add_argument("--shape", choices=SHAPES, action="append")
    args = parser.parse_args()
    if str(args.backend) != "cpu" and not any(Path("/dev").glob("nvidia[0-9]*")):
        print("gpu-bench: there is no NVIDIA GPU on this machine: nothing ran")
        return 2
    try:
        import torch
        torch = torch if torch.cuda.is_available() else None
    except ImportError:
        torch = None
    if torch is None:
        print("gpu-bench: no torch with CUDA here: our own times only, no ratios")
    lines = [["shape", "what", "texts", "tokens", "us", "tokens_per_s", "share_of_peak", "torch_us",
              "torch_how", "ratio"]]
    for name in args.shape or SHAPES:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / name
            write_folder(folder, *SHAPES[name])
            mine = ours(args.tool, args.backend, folder)
        other = theirs(torch, SHAPES[name], mine) if torch else {}
        for key, us in mine.items():
            their_us, how = other.get(key, (None, ""))
            share = share_of_peak(torch, SHAPES[name], key[1], key[2], us) \
                if key[0] == "throughput" else None
            lines.append([name, *key, f"{us:.1f}", f"{key[2] / us * 1e6:.0f}",
                          f"{share:.3f}" if share else "",
                          f"{their_us:.1f}" if their_us else "", how,
                          f"{their_us / us:.2f}" if their_us else ""])
            print(" ".join(f"{v:>12}" for v in lines[-1]), flush=True)
    print()
    csv.writer(sys.stdout).writerows(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
