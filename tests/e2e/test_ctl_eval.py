"""learnctl eval: its numbers are those that a few lines of Python find from the answers; what is not a row is said."""
import csv
import json
import re
from html.parser import HTMLParser

import pytest

from test_ctl import OK, PARTLY, REFUSED, USAGE, run

WORDS = {"card": "card lost stolen", "cash": "cash machine money", "pin": "pin code password"}
TAILS = "please now when why how old new help from account for me again today soon".split()
HOSTILE = "<script>alert('x')</script> & \"co\""


def lessons(names, tails):
    return [{"text": f"{WORDS[n]} {t}", "label": n} for t in tails for n in names]


@pytest.fixture
def taught(shared, model):
    shared.teach(lessons(WORDS, TAILS[:10]), model=model)
    shared.settle(model)
    return model


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def evaluate(shared, model, *args, code=OK):
    env = {"LEARNCTL_URL": shared.url, "LEARNCTL_MODEL": model}
    out, err = run("eval", *args, env=env, code=code)
    if "--json" in args:
        return [json.loads(line) for line in out.splitlines()]
    return out, err


def answers(shared, model, rows, **more):
    texts = [r["text"] for r in rows]
    return shared.ask(texts, model=model, store=False, **more)["results"]


def test_the_numbers_are_those_of_the_answers(shared, taught, tmp_path):
    rows = lessons(WORDS, TAILS[8:]) + [{"text": f"card pin {t}", "label": "cash"} for t in TAILS]
    (found,) = evaluate(shared, taught, write(tmp_path / "f.jsonl", rows), "--json")
    results = answers(shared, taught, rows, top_k=1000)
    right = sum(r["label"] == row["label"] for r, row in zip(results, rows))
    assert 0 < right < len(rows)
    assert found["rows"] == found["rows_known"] == len(rows) and found["rejected"] == 0
    assert found["accuracy"] == pytest.approx(right / len(rows))
    brier = sum(sum((s["score"] - (s["label"] == row["label"])) ** 2 for s in r["labels"])
                for r, row in zip(results, rows)) / len(rows)
    assert found["brier"] == pytest.approx(brier, abs=1e-6)
    bins = {}
    for r, row in zip(results, rows):
        bins.setdefault(max(0, -int(-r["score"] * 15 // 1) - 1), []).append(
            (r["score"], r["label"] == row["label"]))
    ece = sum(abs(sum(p - ok for p, ok in b)) for b in bins.values()) / len(rows)
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    assert found["abstained"] == pytest.approx(sum(r["abstain"] for r in results) / len(rows))
    assert found["novel"] == pytest.approx(sum(r["novel"] for r in results) / len(rows))
    pairs = {}
    for r, row in zip(results, rows):
        if r["label"] != row["label"]:
            pairs[row["label"], r["label"]] = pairs.get((row["label"], r["label"]), 0) + 1
    assert {(p["label"], p["predicted"]): p["rows"] for p in found["confusions"]} == pairs
    f1 = []
    for one in found["labels"]:
        taught_rows = sum(row["label"] == one["label"] for row in rows)
        said = sum(r["label"] == one["label"] for r in results)
        hit = sum(r["label"] == row["label"] == one["label"] for r, row in zip(results, rows))
        assert (one["rows"], one["answered"], one["right"]) == (taught_rows, said, hit)
        f1.append(one["f1"])
    assert f1 == sorted(f1) and found["macro_f1"] == pytest.approx(sum(f1) / len(f1))
    assert found["version"] == found["version_last"]
    assert found["risk_coverage"][-1]["coverage"] == pytest.approx(1)
    assert found["risk_coverage"][-1]["risk"] == pytest.approx(1 - right / len(rows))


def test_nothing_is_kept(shared, taught, tmp_path):
    before = shared.get(f"/v1/models/{taught}")["examples"]
    evaluate(shared, taught, write(tmp_path / "f.jsonl", lessons(WORDS, ["zebra-marker"])))
    assert shared.get(f"/v1/models/{taught}")["examples"] == before
    listed = shared.get(f"/v1/models/{taught}/next?limit=100")["items"]
    assert not any("zebra-marker" in item["text"] for item in listed)


@pytest.mark.sanitizer
def test_bad_lines_are_named_and_the_rest_is_scored(shared, taught, tmp_path):
    path = tmp_path / "f.jsonl"
    good = [json.dumps(r) for r in lessons(WORDS, TAILS[:2])]
    long = json.dumps({"text": "card " * 3000, "label": "card"})
    bad = ["not json", '{"text":"x"}', '{"text":"","label":"card"}', '{"text":"x","labels":["a","b"]}',
           '{"text":"x","label":"card","colour":"red"}', long]
    path.write_text("\n".join(good[:3] + bad + good[3:]) + "\n")
    out, err = evaluate(shared, taught, path, "--truncate", "never", code=PARTLY)
    assert re.findall(r"f\.jsonl:(\d+): (\w+)", err) == [
        ("4", "malformed_json"), ("5", "missing_field"), ("7", "wrong_labels"),
        ("8", "unknown_field"), ("6", "empty_text"), ("9", "text_too_long")]
    assert "6 rows of" in out and "6 rejected" in out
    found = evaluate(shared, taught, path, "--truncate", "never", "--json", code=PARTLY)
    assert [f["line"] for f in found[:-1]] == [4, 5, 7, 8, 6, 9]
    assert found[-1]["rows"] == 6 and found[-1]["rejected"] == 6
    assert "card card" not in json.dumps(found[:-1])


def test_csv_as_import_reads_it(shared, taught, tmp_path):
    path = tmp_path / "f.csv"
    with open(path, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["utterance", "intent"])
        writer.writerows([(r["text"], r["label"]) for r in lessons(WORDS, TAILS[:4])])
    columns = ["--text-column", "utterance", "--label-column", "intent"]
    (found,) = evaluate(shared, taught, path, *columns, "--json")
    assert found["rows"] == 12
    _, err = evaluate(shared, taught, path, code=USAGE)
    assert "--text-column" in err


def test_old_names_and_labels_that_are_not_there(shared, taught, tmp_path):
    shared.patch(f"/v1/models/{taught}/labels/pin", {"label": "code"})
    rows = lessons(WORDS, TAILS[:5]) + [{"text": "card lost", "label": HOSTILE}] * 3
    (found,) = evaluate(shared, taught, write(tmp_path / "f.jsonl", rows), "--json")
    known = {one["label"]: one["known"] for one in found["labels"]}
    assert known == {"card": True, "cash": True, "code": True, HOSTILE: False}
    assert found["rows"] == 18 and found["rows_known"] == 15
    assert found["accuracy"] == pytest.approx(found["accuracy_known"] * 15 / 18)
    out, _ = evaluate(shared, taught, tmp_path / "f.jsonl")
    assert f"never right (rows): {HOSTILE} (3)" in out


def test_an_empty_model_answers_nothing(shared, model, tmp_path):
    path = write(tmp_path / "f.jsonl", lessons(WORDS, TAILS[:2]))
    (found,) = evaluate(shared, model, path, "--json")
    assert found["rows"] == 6 and found["rows_known"] == 0 and found["accuracy"] == 0
    assert found["abstained"] == 1 and found["accuracy_known"] is None
    evaluate(shared, model, path, "--html", tmp_path / "r.html")
    assert "</html>" in (tmp_path / "r.html").read_text()


class Page(HTMLParser):
    """Balanced tags, and what a page must not have."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts = [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not any(k in ("src", "href") or k.startswith("on") for k, _ in attrs), attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.sanitizer
def test_a_page_with_hostile_labels(shared, model, tmp_path):
    odd = "</svg><img src=x onerror=alert(1)>"
    names = {"card": HOSTILE, "cash": odd, "pin": "pin\u202e&lt;"}
    shared.teach([{**r, "label": names[r["label"]]} for r in lessons(WORDS, TAILS[:10])],
                 model=model)
    shared.settle(model)
    rows = [{**r, "label": names[r["label"]]} for r in lessons(WORDS, TAILS)]
    rows += [{"text": f"card lost stolen {t}", "label": odd} for t in TAILS[:5]]
    page = tmp_path / "report.html"
    _, err = evaluate(shared, model, write(tmp_path / "<b>.jsonl", rows), "--html", page)
    assert "report.html" in err
    text = page.read_text()
    found = Page(text)
    assert found.seen <= set("html head meta title style body h1 h2 p small dl div dt dd figure svg "
                             "rect line circle polyline text table tr th td span i".split())
    assert {"svg", "circle", "polyline", "rect", "table"} <= found.seen
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "prefers-color-scheme:dark" in text and "\u202e" not in text
    assert HOSTILE in "".join(found.texts) and odd in "".join(found.texts)
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_a_place_that_cannot_be_written(shared, taught, tmp_path):
    path = write(tmp_path / "f.jsonl", lessons(WORDS, TAILS[:2]))
    _, err = evaluate(shared, taught, path, "--html", tmp_path / "none" / "r.html", code=USAGE)
    assert "r.html" in err


@pytest.mark.sanitizer
def test_sets(shared, model, tmp_path):
    name = f"{model}-multi"
    shared.post("/v1/models", {"name": name, "kind": "multi"}, expect=201)
    names = list(WORDS)
    rows = []
    for i, tail in enumerate(TAILS):
        first, second = names[i % 3], names[(i + 1) % 3]
        rows += [{"text": f"{WORDS[first]} {tail}", "labels": [first]},
                 {"text": f"{WORDS[first]} {WORDS[second]} {tail}", "labels": [second, first]},
                 {"text": f"hello good day {tail}", "labels": []}]
    shared.teach(rows[:30], model=name)
    shared.settle(name)
    rows.append({"text": "hello there", "labels": ["unheard of", "card"]})
    (found,) = evaluate(shared, name, write(tmp_path / "f.jsonl", rows), "--json")
    results = answers(shared, name, rows)
    guessed = [{s["label"] for s in r["labels"]} for r in results]
    truth = [set(r["labels"]) for r in rows]
    both = sum(len(g & t) for g, t in zip(guessed, truth))
    exact = sum(g == t for g, t in zip(guessed, truth)) / len(rows)
    total = sum(len(g) + len(t) for g, t in zip(guessed, truth))
    assert found["exact_match"] == pytest.approx(exact) and 0 < exact < 1
    assert found["micro_f1"] == pytest.approx(2 * both / total)
    wrong = sum(len(g ^ t) for g, t in zip(guessed, truth))
    assert found["hamming_loss"] == pytest.approx(wrong / (3 * len(rows)), rel=0.02)
    assert found["rows_known"] == len(rows) - 1
    f1 = []
    for one in found["labels"]:
        hit = sum(one["label"] in g and one["label"] in t for g, t in zip(guessed, truth))
        all_of = sum((one["label"] in g) + (one["label"] in t) for g, t in zip(guessed, truth))
        assert one["f1"] == pytest.approx(2 * hit / all_of)
        f1.append(one["f1"])
    assert found["macro_f1"] == pytest.approx(sum(f1) / len(f1))
    out, _ = evaluate(shared, name, tmp_path / "f.jsonl", "--html", tmp_path / "r.html")
    assert "exact match" in out and "unheard of (1)" in out
    Page((tmp_path / "r.html").read_text())


def test_vectors(shared, model, tmp_path):
    name = f"{model}-vectors"
    shared.post("/v1/models", {"name": name, "encoder": "none", "dim": 8}, expect=201)

    def vector(i, k):
        return [1.0 if j == i else 0.01 * ((j * 7 + k) % 5) for j in range(8)]

    rows = [{"vector": vector(i, k), "label": f"l{i}"} for k in range(6) for i in range(3)]
    shared.teach(rows, model=name)
    shared.settle(name)
    path = write(tmp_path / "f.jsonl", rows + [{"vector": [1.0], "label": "l0"}])
    found = evaluate(shared, name, path, "--json", code=PARTLY)
    assert found[-1]["rows"] == 18 and found[-1]["accuracy"] == 1 and found[0]["line"] == 19


def test_wrong_use(shared, model, tmp_path):
    evaluate(shared, model, code=USAGE)
    evaluate(shared, model, "file-of-no-format", code=USAGE)
    evaluate(shared, model, tmp_path / "none.jsonl", code=USAGE)
    empty = write(tmp_path / "empty.jsonl", [])
    _, err = evaluate(shared, model, empty, code=REFUSED)
    assert "no row" in err
    env = {"LEARNCTL_URL": shared.url, "LEARNCTL_MODEL": "no-such-model"}
    _, err = run("eval", write(tmp_path / "f.jsonl", lessons(WORDS, ["x"])), env=env, code=REFUSED)
    assert "unknown_model" in err


def test_many_pages(shared, taught, tmp_path):
    """More rows than one request holds; from stdin."""
    rows = [{"text": f"{WORDS[n]} {i}", "label": n} for i in range(120) for n in WORDS]
    env = {"LEARNCTL_URL": shared.url, "LEARNCTL_MODEL": taught}
    out, _ = run("eval", "-", "--format", "jsonl", "--json", env=env,
                 stdin="".join(json.dumps(r) + "\n" for r in rows))
    assert json.loads(out)["rows"] == 360
