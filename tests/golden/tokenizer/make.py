#!/usr/bin/env python3
"""Makes what tests/unit/test_tokenizer.c expects, by asking Hugging Face's `tokenizers` package
(made with 0.23.3):
  uncased/ cased/ chinese/  small vocabularies of our own, each as tokenizer.json and as vocab.txt
                            with tokenizer_config.json
  cases.jsonl               texts of our own writing with their ids; "bytes" (hex) where a text is
                            not UTF-8
  points.txt                a hash for each 4,096 code points: every one alone, with every one a
                            piece of the vocabulary, lower-cased and kept; and between two letters,
                            with the small uncased vocabulary
  shared.txt                a hash for each line of the shared naughty strings and languages, with
                            the vocabularies of BERT
By hand:  python tests/golden/tokenizer/make.py ../shared/data
A hash is the first 32 bits of FNV-1a 64 over the ids as 32-bit little endian. The Tokenizers here
have no special token added, so that "[SEP]" in a text is plain text."""

import json
import os
import struct
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the a card account bank where is my how do not can hello world un ##able ##ing ##ed ##s
##ly ##ness token ##ize ##r
naive cafe uber strasse straße istanbul ##bul Hello World The Card BERT ##RT CamelCase HELLO É É é e
é ##é ##e ñ n
привет мир ##вет Привет ελλαδα ##δα Ελλάδα שלום مرحبا नमस्ते ##स्ते สวัสดี 안녕 가 하 ##ᆫ ᄒ 日本 日 本 中 文 国
##国 你 好 ## # ##] [ ] 😀 👍 ™ ½ ² ff fi
ﬁ ß ss ı i İ Σ σ ς x ##x xx ##xx ­""".split()


def vocabulary(kind):
    ascii_chars = [chr(c) for c in range(33, 127)]
    pieces = SPECIALS + ascii_chars + ["##" + c for c in ascii_chars] + WORDS
    if kind == "uncased":
        pieces = [p if p in SPECIALS else p.lower() for p in pieces]
    if kind == "chinese":
        pieces += [chr(c) for c in range(0x4E00, 0x4E80)] + [
            "##" + chr(c) for c in range(0x4E00, 0x4E20)
        ]
    return list(dict.fromkeys(pieces))


def tokenizer(pieces, lowercase, special=True):
    t = Tokenizer(
        models.WordPiece(
            vocab={p: i for i, p in enumerate(pieces)},
            unk_token="[UNK]",
            max_input_chars_per_word=100,
        )
    )
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if special:
        ends = [(s, pieces.index(s)) for s in ("[CLS]", "[SEP]")]
        t.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    return t


def fnv(ids):
    h = 0xCBF29CE484222325
    for b in struct.pack(f"<{len(ids)}i", *ids):
        h = ((h ^ b) * 0x100000001B3) & (2**64 - 1)
    return f"{h >> 32:08x}"


TEXTS = [
    "",
    " ",
    "\t\r\n",
    "Hello, world!",
    "hello world",
    "HELLO WORLD",
    "Hello\x00World",
    "a\u200bb\u200db\ufeffc",
    "a\u00adb",
    "tab\tline\nfeed\x0bvt\x0cff",
    "unable tokenizer's un-able  (tokenized)",
    "naïve café Über Straße STRASSE",
    "e\u0301 E\u0301 n\u0303 a\u0300\u0316\u0301b",
    "\u0301\u0301",
    "İstanbul ISTANBUL ı",
    "Σίσυφος ΣΑΣ σς",
    "Привет, мир! привет",
    "Ελλάδα ελλαδα",
    "שָׁלוֹם שלום",
    "مرحبا مَرْحَبًا",
    "नमस्ते दुनिया",
    "สวัสดีครับ",
    "안녕하세요 안녕",
    "日本語テキスト",
    "中文text混合 你好国",
    "你 好\u3000国",
    "㐀𠀀𪜀豈丽",
    "😀👍🏽👨‍👩‍👧🇩🇪",
    "™½²ﬁﬀ①",
    "[CLS] [SEP] [UNK] [PAD] [MASK]",
    "say [SEP] twice [SEP]",
    "[sep] [SE P]",
    "##able ##",
    "$1,000.00 50% #tag @you",
    "¿qué? ¡no! «a» „b“ …",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "x" * 5000,
    "é" * 100,
    "é" * 101,
    ("a" * 60 + "日" + "b" * 60),
    "1" * 250,
    "!" * 40,
    " ".join(["hello world"] * 60),
    "\u2028a\u2029b\u0085c\u00a0d\u1680e\u202ff\u205fg\u3000h",
    "\u0e33 \u0f73 \u0344 \u1e69",
    "\u0f71\u0f72\u0f74 \u09cb\u09cc \u0b94",
    "\U0001d15e\U0001d15f \U0001d400",
    "\ue000\uf8ff\U000f0000\U0010ffff",
    "a\ufffdb\ufffec\uffff",
    "\x7f\x80\x9f\x1f",
    "\U000e0041\U000e007f\u206a",
    "Ǆǅǆ ǰ ŉ ẞ Ω K Å",
    "\u1100\u1161\u11a8 가각",
    "DROP TABLE users; -- \" or 1=1 '",
    "<script>alert('x')</script>",
    "../../etc/passwd %s%n%x",
    "ﷺ ﷻ ﷽",
    "z̷̢̛a̵̡l̶͓g̸o",
    "0x7FFFFFFF -1e309 NaN",
    "٠١٢٣ ०१२३ 一二三",
    "ᚠᛇᚻ ꙮ ꧁꧂ 𒀀𓀀",
    "\u202eabc\u202c \u2066x\u2069",
]
PAIRS = [
    ("", ""),
    ("hello", ""),
    ("", "world"),
    ("where is my card", "the bank"),
    ("a [SEP] b", "c"),
    ("日本", "中文 國"),
    ("hello world " * 20, "card"),
    ("card", "hello world " * 20),
    ("hello world " * 20, "the card " * 20),
    ("the card " * 20, "hello " * 39),
    ("é" * 101, "x" * 100),
]
RAW = [
    "ff",
    "c3",
    "61c328",
    "e28228",
    "f0288cbc",
    "eda080",
    "edb080 61".replace(" ", ""),
    "f4908080",
    "c0af",
    "e0809f",
    "f8a1a1a1a1",
    "f09f9880f09f98",
    "61ff62c063",
    "80808061",
]


def encode(t, text, pair, most, truncate):
    t.no_truncation()
    full = t.encode(text, pair)
    if len(full.ids) > most and truncate == "never":
        return None
    if truncate != "never":
        t.enable_truncation(most, strategy="longest_first", direction=truncate)
    return t.encode(text, pair)


def cases(out):
    texts = [(t, None) for t in TEXTS] + PAIRS + [(bytes.fromhex(r), None) for r in RAW]
    for kind, lowercase in (("uncased", True), ("cased", False), ("chinese", False)):
        t = tokenizer(vocabulary(kind), lowercase)
        for text, pair in texts:
            raw = isinstance(text, bytes)
            sent = text.decode("utf-8", "replace") if raw else text
            lengths = {
                512: ["right"],
                24: ["right", "left", "never"],
                7: ["left"],
                4: ["right", "left"],
            }
            for most, ways in lengths.items():
                for truncate in ways:
                    e = encode(t, sent, pair, most, truncate)
                    if most < 512 and e is not None and len(e.ids) < most:
                        continue  # says what 512 says
                    row = {
                        "vocabulary": kind,
                        "max": most,
                        "truncate": truncate,
                        "bytes" if raw else "text": text.hex() if raw else text,
                    }
                    if pair is not None:
                        row["pair"] = pair
                    row["ids"] = e.ids if e else None
                    if pair is not None and e:
                        row["types"] = e.type_ids
                    out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def points(out):
    every = [c for c in range(0x21, 0x30000) if not 0xD800 <= c < 0xE000]
    whole = SPECIALS + [chr(c) for c in every]
    ways = [
        ("alone", tokenizer(whole, True)),
        ("kept", tokenizer(whole, False)),
        ("between", tokenizer(vocabulary("uncased"), True)),
    ]
    for start in range(0, 0x110000, 4096):
        block = [chr(c) for c in range(start, start + 4096) if not 0xD800 <= c < 0xE000]
        sep = [" ".join(block), " ".join(block), " ".join("a" + c + "b" for c in block)]
        print(
            f"{start:06x}", *(f"{fnv(t.encode(s).ids)}" for (_, t), s in zip(ways, sep)), file=out
        )


def shared(out, data):
    lines = [
        ("naughty", i, s)
        for i, s in enumerate(
            open(os.path.join(data, "naughty_strings", "blns.txt"), encoding="utf-8", newline="\n")
            .read()
            .split("\n")
        )
    ]
    lines += [
        ("udhr", i, json.loads(s)["text"])
        for i, s in enumerate(open(os.path.join(data, "udhr", "udhr_2k.jsonl"), encoding="utf-8"))
    ]
    ts = []
    for kind, lowercase in (("uncased", True), ("cased", False), ("chinese", False)):
        path = os.path.join(data, "tokenizer_vectors", f"bert-base-{kind}-vocab.txt")
        ts.append(
            tokenizer(
                open(path, encoding="utf-8", newline="\n").read().rstrip("\n").split("\n"),
                lowercase,
            )
        )
    for name, i, text in lines:
        print(name, i, *(fnv(t.encode(text).ids) for t in ts), file=out)


def folders():
    for kind, lowercase in (("uncased", True), ("cased", False), ("chinese", False)):
        folder = os.path.join(HERE, kind)
        for form in ("json", "txt"):
            os.makedirs(os.path.join(folder, form), exist_ok=True)
        pieces = vocabulary(kind)
        tokenizer(pieces, lowercase).save(
            os.path.join(folder, "json", "tokenizer.json"), pretty=False
        )
        open(os.path.join(folder, "txt", "vocab.txt"), "w", encoding="utf-8", newline="\n").write(
            "\n".join(pieces) + "\n"
        )
        with open(os.path.join(folder, "txt", "tokenizer_config.json"), "w") as f:
            json.dump(
                {
                    "do_lower_case": lowercase,
                    "tokenizer_class": "BertTokenizer",
                    "unk_token": "[UNK]",
                    "cls_token": "[CLS]",
                    "sep_token": "[SEP]",
                },
                f,
            )


folders()
for name, make in (("cases.jsonl", cases), ("points.txt", points)):
    with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="\n") as f:
        make(f)
if len(sys.argv) > 1:
    with open(os.path.join(HERE, "shared.txt"), "w") as f:
        shared(f, sys.argv[1])
