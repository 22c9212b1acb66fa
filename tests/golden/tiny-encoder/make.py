#!/usr/bin/env python3
"""Makes the tiny random BERT that the suite runs on: this folder, a `bert.` prefixed F16 one and a
CLS one beside it, and expected.txt with the embeddings that transformers computes. By hand, with
torch, transformers, safetensors:
    python tests/golden/tiny-encoder/make.py
Random weights keep enough of a text for tests: equal words give near embeddings."""

import json
import os
import string

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = """the a an is are was where when how do does did i my me you your we it to of in on for
from with and or not can cannot
could would should will have has had card account money bank transfer top up lost stolen find new
old cash pin code password
reset help please thanks hello good bad great terrible refund order late arrive arrived waiting
still payment fee charge exchange
rate country open close app phone number change name address what why who which this that there here
never always today tomorrow
broken works fine very much many more less all any some one two three spam offer free win prize
click weather rain sun music play
song movie book travel flight hotel food eat restaurant time date number water red green blue
anywhere add by""".split()


def vocabulary():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    chars = list(string.ascii_lowercase + string.digits)
    pieces += chars + ["##" + c for c in chars] + list(string.punctuation)
    pieces += [w for w in dict.fromkeys(WORDS) if w not in pieces]
    pieces += ["##ing", "##ed", "##s", "##er", "##ly", "ä", "##ä", "日", "本", "語", "中", "文"]
    return list(dict.fromkeys(pieces))


def write(folder, config, model, tokenizer_json, prefix="", dtype=torch.float32, cls=False):
    os.makedirs(folder, exist_ok=True)
    tensors = {
        prefix + k: v.to(dtype).contiguous()
        for k, v in model.state_dict().items()
        if not k.startswith("pooler") and "position_ids" not in k
    }
    save_file(tensors, os.path.join(folder, "model.safetensors"))
    json.dump(config, open(os.path.join(folder, "config.json"), "w"), indent=1)
    open(os.path.join(folder, "tokenizer.json"), "w").write(tokenizer_json)
    json.dump(
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
            {
                "idx": 2,
                "name": "2",
                "path": "2_Normalize",
                "type": "sentence_transformers.models.Normalize",
            },
        ],
        open(os.path.join(folder, "modules.json"), "w"),
        indent=1,
    )
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    json.dump(
        {
            "word_embedding_dimension": config["hidden_size"],
            "pooling_mode_cls_token": cls,
            "pooling_mode_mean_tokens": not cls,
        },
        open(os.path.join(folder, "1_Pooling", "config.json"), "w"),
        indent=1,
    )
    json.dump(
        {"max_seq_length": 48, "do_lower_case": False},
        open(os.path.join(folder, "sentence_bert_config.json"), "w"),
    )


def main():
    torch.manual_seed(11)
    pieces = vocabulary()
    vocab_file = os.path.join(HERE, "vocab.txt")
    open(vocab_file, "w").write("\n".join(pieces) + "\n")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocab = {p: i for i, p in enumerate(pieces)}
    t = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        type_vocab_size=2,
        initializer_range=0.25,
        attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():  # biases and norms that are not zero and one, so that a mix-up shows
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    plain = {
        k: getattr(config, k)
        for k in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "layer_norm_eps",
            "hidden_act",
        )
    }
    plain.update(model_type="bert", architectures=["BertModel"], position_embedding_type="absolute")
    text = t.to_str()
    write(HERE, plain, model, text)
    write(HERE + "-cls-f16", plain, model, text, prefix="bert.", dtype=torch.float16, cls=True)
    half = BertModel(config, add_pooling_layer=False).eval()
    half.load_state_dict({k: v.to(torch.float16).float() for k, v in model.state_dict().items()})
    cases = [
        "where is my card",
        "I lost my card!",
        "a",
        "",
        "Hello, World 42",
        "not a word: zxqj",
        "日本語 text",
        "top up",
        "ÄÄ a",
        (
            "how do i top up my account with cash please thanks hello good bad great terrible"
            " refund order late"
        ),
        ("where is my card", "not lost"),
        " ".join(["the money transfer is late"] * 12),
    ]
    with open(os.path.join(HERE, "expected.txt"), "w") as f, torch.no_grad():
        f.write(f"{len(cases)} {config.hidden_size}\n")
        for c in cases:
            e = t.encode(*c) if isinstance(c, tuple) else t.encode(c)
            ids, types = e.ids[:48], e.type_ids[:48]
            if len(e.ids) > 48:
                ids[-1] = vocab["[SEP]"]
            run = lambda m: m(
                input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])
            ).last_hidden_state[0]
            mean = run(model).mean(0)
            first = run(half)[0]
            f.write(f"{len(ids)} {' '.join(map(str, ids))} {' '.join(map(str, types))}\n")
            for v in (mean / mean.norm(), first / first.norm()):
                f.write(" ".join(f"{x:.9g}" for x in v.tolist()) + "\n")


main()
