#!/usr/bin/env python3
"""Makes single.safetensors and multi.safetensors: a batch on the tiny encoder, and what PyTorch makes
of it: logits, loss with its parts, the gradient of every tensor, and ten AdamW losses. By hand, with
torch, transformers, safetensors:
    python tests/golden/train/make_train_golden.py
The encoder is that of transformers, in fp64, without dropout: what a test finds is the C code's own
error. The losses are written down again here, from LEARNING.md."""

import math
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BertModel

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(os.path.dirname(HERE), "tiny-encoder")
SETTINGS = (
    "multi labels steps lr head_lr warmup weight_decay clip scale alpha distill temperature feature"
).split()


def load(folder):
    model = BertModel.from_pretrained(
        folder, add_pooling_layer=False, attn_implementation="eager", torch_dtype=torch.float32
    )
    return model.eval().double()


def embed(model, ids, types):
    """Unit embeddings: mean of the last layer."""
    n, width = len(ids), max(len(i) for i in ids)
    padded, kinds, mask = (torch.zeros(n, width, dtype=torch.long) for _ in range(3))
    for row, (i, t) in enumerate(zip(ids, types)):
        padded[row, : len(i)] = torch.tensor(i)
        kinds[row, : len(i)] = torch.tensor(t)
        mask[row, : len(i)] = 1
    hidden = model(input_ids=padded, token_type_ids=kinds, attention_mask=mask).last_hidden_state
    weight = mask.double().unsqueeze(-1)
    return F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


class Head(torch.nn.Module):
    def __init__(self, prototypes, scale, multi):
        super().__init__()
        self.w = torch.nn.Parameter(F.normalize(prototypes.double(), dim=-1))
        self.b = torch.nn.Parameter(torch.full((len(prototypes),), 0.5).double()) if multi else None
        self.scale = scale

    def forward(self, x):
        cosines = F.linear(x, F.normalize(self.w, dim=-1))
        return self.scale * (cosines if self.b is None else cosines - self.b)


def tempered(teacher, temperature, multi):
    teacher = teacher.double()
    if multi:
        return torch.sigmoid(torch.logit(teacher, 1e-7) / temperature)
    p = teacher ** (1 / temperature)
    return p / p.sum()


def loss_of(case, s, x, z):
    """The loss, and its parts: new, old, distill, feature."""
    n, T = len(x), s["temperature"]
    new = old = kl = far = 0.0
    for i in range(n):
        target = torch.zeros(s["labels"], dtype=torch.float64)
        for label, value in case["targets"][i]:
            target[label] = value
        if s["multi"]:
            ce = F.binary_cross_entropy_with_logits(z[i], target, reduction="sum")
        else:
            ce = -(target * F.log_softmax(z[i], -1)).sum()
        if case["old"][i]:
            old = old + ce / n
        else:
            new = new + ce / n
        teacher = case["teachers"][i]
        if teacher is not None:
            p, k = tempered(teacher, T, s["multi"]), len(teacher)
            if s["multi"]:
                q = torch.sigmoid(z[i, :k] / T)
                one = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
            else:
                one = torch.xlogy(p, p) - p * F.log_softmax(z[i, :k] / T, -1)
            kl = kl + T * T * one.sum() / n
        if case["embeddings"][i] is not None:
            far = far + (1 - x[i] @ case["embeddings"][i].double()) / n
    alpha = s["alpha"] if any(case["old"][:n]) else 1.0
    return old + alpha * new + s["distill"] * kl + s["feature"] * far, (new, old, kl, far)


def rate(s, t):
    warm = max(1, int(s["warmup"] * s["steps"]))
    return (t + 1) / warm if t < warm else max(0.0, (s["steps"] - t) / max(1, s["steps"] - warm))


def forward(model, head, case, n):
    x = embed(model, case["ids"][:n], case["types"][:n])
    return x, head(x)


def reference(folder, case, s):
    """What PyTorch makes of a case, as tensors by name."""
    model, head = load(folder), Head(case["prototypes"], s["scale"], s["multi"])
    names = dict(model.named_parameters())
    n = len(case["ids"])
    x, z = forward(model, head, case, n)
    loss, parts = loss_of(case, s, x, z)
    loss.backward()
    out = {"logits": z.detach(), "loss": torch.stack([torch.as_tensor(v) for v in (loss, *parts)])}
    out.update({"grad." + k: p.grad.clone() for k, p in names.items()})
    out["grad.head"] = head.w.grad.clone()
    if head.b is not None:
        out["grad.biases"] = head.b.grad.clone()
    decayed = [p for k, p in names.items() if p.ndim == 2 and not k.startswith("embeddings.")]
    plain = [p for k, p in names.items() if p.ndim != 2 or k.startswith("embeddings.")]
    groups = [
        {"params": decayed, "weight_decay": s["weight_decay"], "base": s["lr"]},
        {"params": plain, "weight_decay": 0.0, "base": s["lr"]},
        {"params": list(head.parameters()), "weight_decay": 0.0, "base": s["head_lr"]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    losses = []
    for t in range(11):
        optimizer.zero_grad()
        k = n if t % 2 == 0 else n // 2
        loss, _ = loss_of(case, s, *forward(model, head, case, k))
        losses.append(float(loss.detach()))
        if t == 10:
            break
        loss.backward()
        everything = list(names.values()) + list(head.parameters())
        torch.nn.utils.clip_grad_norm_(everything, s["clip"])
        for g in optimizer.param_groups:
            g["lr"] = g["base"] * rate(s, t)
        optimizer.step()
    out["losses"] = torch.tensor(losses)
    with torch.no_grad():
        out["embeddings_after"] = embed(model, case["ids"], case["types"])
    return {k: v.detach().float().contiguous() for k, v in out.items()}


def settings(multi, labels):
    return dict(
        multi=multi, labels=labels, steps=20, lr=1e-3, head_lr=1e-2, warmup=0.2, weight_decay=0.05,
        clip=1.0, scale=20.0, alpha=0.7, distill=0.5, temperature=2.0, feature=0.3,
    )  # fmt: skip


def make_case(ids, types, labels, dim, multi):
    """Targets, teachers and prototypes for texts: hard and soft targets, old and new, teachers that
    know some of the labels (one of them with a probability of 0)."""
    g = torch.Generator().manual_seed(5 + multi)
    n = len(ids)
    case = dict(ids=ids, types=types, old=[i % 2 == 0 for i in range(n)], targets=[], teachers=[])
    case["embeddings"] = []
    case["prototypes"] = torch.randn(labels, dim, generator=g)
    for i in range(n):
        if multi:
            case["targets"].append([(c, 1.0) for c in range(labels) if (i * 7 + c * 3) % 5 == 0])
        elif i % 3 == 2:
            case["targets"].append([(i % labels, 0.75), ((i + 1) % labels, 0.25)])
        else:
            case["targets"].append([(i % labels, 1.0)])
        known = torch.rand(labels - 1 - i % 2, generator=g)
        if not multi:
            known[0] = 0 if i == 0 else known[0]
            known /= known.sum()
        case["teachers"].append(known if case["old"][i] else None)
        unit = F.normalize(torch.randn(dim, generator=g), dim=-1)
        case["embeddings"].append(unit if case["old"][i] and i != 2 else None)
    return case


def packed(case, s):
    """A case as the tensors of train_fixture.c."""
    n, labels = len(case["ids"]), s["labels"]
    whole = lambda values: torch.tensor(values, dtype=torch.int32)
    flat = [(i, c, v) for i, row in enumerate(case["targets"]) for c, v in row]
    teachers = torch.zeros(n, labels)
    embeddings = torch.zeros(n, case["prototypes"].shape[1])
    for i in range(n):
        if case["teachers"][i] is not None:
            teachers[i, : len(case["teachers"][i])] = case["teachers"][i]
        if case["embeddings"][i] is not None:
            embeddings[i] = case["embeddings"][i]
    return dict(
        settings=torch.tensor([float(s[k]) for k in SETTINGS]),
        ids=whole([t for row in case["ids"] for t in row]),
        types=whole([t for row in case["types"] for t in row]),
        lens=whole([len(row) for row in case["ids"]]),
        old=whole([int(o) for o in case["old"]]),
        teacher_len=whole([0 if t is None else len(t) for t in case["teachers"]]),
        teachers=teachers,
        has_embedding=whole([int(e is not None) for e in case["embeddings"]]),
        embeddings=embeddings,
        target_of=whole([i for i, _, _ in flat]),
        target_label=whole([c for _, c, _ in flat]),
        target_value=torch.tensor([v for _, _, v in flat]),
        prototypes=case["prototypes"],
    )


def main():
    g = torch.Generator().manual_seed(3)
    lens = [1, 7, 12, 3, 20, 5, 33, 2]
    ids = [torch.randint(5, 257, (n,), generator=g).tolist() for n in lens]
    types = [[int(i % 3 == 1 and k >= n // 2) for k in range(n)] for i, n in enumerate(lens)]
    for name, multi in (("single", False), ("multi", True)):
        s = settings(multi, 5)
        case = make_case(ids, types, 5, 32, multi)
        tensors = packed(case, s) | reference(TINY, case, s)
        save_file(tensors, os.path.join(HERE, name + ".safetensors"))
        print(name, [round(v, 4) for v in tensors["losses"].tolist()])


if __name__ == "__main__":
    assert math.isclose(rate(settings(False, 5), 0), 0.25)
    sys.exit(main())
