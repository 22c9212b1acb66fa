"""Models without encoder: vectors made elsewhere are asked, taught, kept and forgotten as texts
are."""
import math
import random
import struct

import pytest

from test_ctl import run
from test_erase import where

DIM = 16
LABELS = ("red", "green", "blue")


def cloud(seed, n, dim=DIM):
    """(vector, label) pairs around a centre for each label; every number is exact in fp32."""
    centres = random.Random(1)
    centre = {label: [centres.gauss(0, 1) for _ in range(dim)] for label in LABELS}
    dice = random.Random(seed)
    return [([round(c + dice.gauss(0, 0.5), 4) for c in centre[label]], label)
            for label in (LABELS[i % len(LABELS)] for i in range(n))]


@pytest.fixture
def vectors(shared, model):
    """The name of a new vector model in the shared daemon."""
    name = f"{model}-vectors"
    shared.post("/v1/models", {"name": name, "encoder": "none", "dim": DIM}, expect=201)
    return name


def teach(daemon, pairs, model, **fields):
    return daemon.teach([{"vector": v, "label": label} for v, label in pairs], model=model,
                        **fields)["accepted"]


def ask(daemon, rows, model, **fields):
    return daemon.ask([{"vector": v} for v in rows], model=model, **fields)["results"]


def scores(daemon, model):
    return [[(s["label"], s["score"]) for s in r["labels"]]
            for r in ask(daemon, [v for v, _ in cloud(99, 12)], model, top_k=3)]


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert dict(a).keys() == dict(b).keys()
        for label, score in a:
            assert score == pytest.approx(dict(b)[label], abs=1e-6)


@pytest.mark.sanitizer
def test_learns_vectors(shared, vectors):
    teach(shared, cloud(1, 90), vectors)
    right = 0
    test = cloud(2, 60)
    results = ask(shared, [v for v, _ in test], vectors)
    for result, (_, label) in zip(results, test, strict=True):
        right += result["label"] == label
        assert result["tokens"] == 0 and not result["truncated"]
    assert right >= 57
    described = shared.get(f"/v1/models/{vectors}")
    assert (described["encoder"], described["dim"], described["examples"]) == ("none", DIM, 90)
    assert "dim" not in described["settings"]
    shared.patch(f"/v1/models/{vectors}", {"settings": {"score_min": 0.2}})
    assert shared.get(f"/v1/models/{vectors}")["dim"] == DIM


@pytest.mark.sanitizer
def test_length_does_not_matter(shared, vectors):
    [(v, label)] = cloud(1, 1)
    first, = teach(shared, [(v, label)], vectors)
    for factor in (1e-30, 0.125, 1024, 1e30):
        again, = teach(shared, [([x * factor for x in v], label)], vectors)
        assert again["example"] == first["example"]
    kept = shared.get(f"/v1/examples/{first['example']}")
    assert kept["text"] is None and len(kept["vector"]) == DIM
    norm = math.sqrt(sum(x * x for x in v))
    assert kept["vector"] == pytest.approx([x / norm for x in v], abs=5e-4)
    for x in kept["vector"]:  # they are what fp16 can hold
        assert struct.unpack("<e", struct.pack("<e", x))[0] == pytest.approx(x, rel=1e-6)
    again, = teach(shared, [(kept["vector"], label)], vectors)
    assert again["example"] == first["example"]  # what was read is the same when it is sent


def test_lists_and_explanations(shared, vectors):
    teach(shared, cloud(1, 9), vectors)
    for example in shared.get(f"/v1/models/{vectors}/examples")["examples"]:
        assert example["text"] is None and example["vector"] is True
    result, = ask(shared, [cloud(1, 1)[0][0]], vectors, explain=True)
    assert result["because"][0]["text"] is None
    assert result["because"][0]["similarity"] == pytest.approx(1, abs=1e-3)


@pytest.mark.sanitizer
def test_feedback_by_request(shared, vectors):
    teach(shared, cloud(1, 30), vectors)
    (vector, label), = cloud(7, 1)
    asked, = ask(shared, [vector], vectors)
    said = shared.post("/v1/feedback", {"model": vectors, "request_id": asked["request_id"],
                                        "label": "violet", "wait": "applied"}, expect=202)
    direct, = teach(shared, [(vector, "violet")], vectors)
    assert said["accepted"][0]["example"] == direct["example"]
    example = shared.get(f"/v1/examples/{direct['example']}")
    assert example["label"] == "violet" and len(example["vector"]) == DIM
    shared.post("/v1/feedback", {"model": vectors, "example": direct["example"], "label": label},
                expect=202)


def test_beside_texts_and_other_dimensions(make_daemon):
    """Batches of a lane mix them; nobody sees the others."""
    d = make_daemon().start()
    dims = (2, 5, 16, 100, 4096)
    for dim in dims:
        d.post("/v1/models", {"name": f"v{dim}", "encoder": "none", "dim": dim}, expect=201)
        teach(d, cloud(1, 12, dim), f"v{dim}")
    d.teach([("one text", "a"), ("another text", "b")])
    for dim in dims:
        test = cloud(3, 12, dim)
        results = ask(d, [v for v, _ in test], f"v{dim}")
        assert all(r["label"] in LABELS for r in results)
        if dim >= 16:
            assert [r["label"] for r in results] == [label for _, label in test]
    assert d.ask("one text")["results"][0]["label"] == "a"


@pytest.mark.sanitizer
def test_restart_kill_and_rebuild(make_daemon):
    d = make_daemon().start()
    d.post("/v1/models", {"name": "v", "encoder": "none", "dim": DIM}, expect=201)
    teach(d, cloud(1, 60), "v")
    before = scores(d.settle("v"), "v")
    d.restart().settle("v")
    same(before, scores(d, "v"))
    d.kill9()
    for image in (d.state / "heads").iterdir():  # the journal alone is enough
        image.unlink()
    d.start().settle("v")
    same(before, scores(d, "v"))


@pytest.mark.sanitizer
def test_deleting_a_vector_erases_it(make_daemon):
    d, other = make_daemon("d").start(), make_daemon("other").start()
    for one in (d, other):
        one.post("/v1/models", {"name": "v", "encoder": "none", "dim": DIM}, expect=201)
        teach(one, cloud(1, 30), "v")
    (vector, label), = cloud(5, 1)
    asked, = ask(d, [vector], "v")
    taught, = teach(d, [(vector, label)], "v")
    numbers = d.get(f"/v1/examples/{taught['example']}")["vector"]
    needle = struct.pack(f"<{DIM}e", *numbers)
    d.restart()
    assert where(d.state, [needle])
    asked, = ask(d, [vector], "v")
    d.delete(f"/v1/examples/{taught['example']}")
    assert where(d.state, [needle]) == []
    assert d.problem("POST", "/v1/feedback", {"model": "v", "request_id": asked["request_id"],
                                              "label": "red"})[1] == "unknown_request"
    for one in (d, other):
        one.settle("v")
    same(scores(d, "v"), scores(other, "v"))


def test_export_and_import(shared, vectors, tmp_path):
    teach(shared, cloud(1, 20), vectors)
    path, env = tmp_path / "v.jsonl", {"LEARNCTL_URL": shared.url}
    run("export", path, "--model", vectors, env=env)
    copy = f"{vectors}-copy"
    run("models", "create", copy, "encoder=none", f"dim={DIM}", "score_min=0.1", env=env)
    assert "20 accepted" in run("import", path, "--model", copy, env=env)[0]
    assert "20 of them known before" in run("import", path, "--model", copy, env=env)[0]

    def vectors_of(model):
        rows = shared.get(f"/v1/models/{model}/examples")["examples"]
        return sorted((shared.get(f"/v1/examples/{r['example']}")["vector"], r["label"])
                      for r in rows)

    assert vectors_of(copy) == vectors_of(vectors)
    assert "CSV" in run("export", tmp_path / "v.csv", "--model", vectors, env=env, code=2)[1]


ONES = [1.0] * DIM


@pytest.mark.parametrize("vector, refusal", [
    ([0.0] * DIM, (422, "invalid_vector", "inputs[0].vector")),
    (ONES[1:], (422, "wrong_dim", "inputs[0].vector")),
    (ONES + [1], (422, "wrong_dim", "inputs[0].vector")),
    ([1], (422, "wrong_dim", "inputs[0].vector")),
    ([], (422, "wrong_dim", "inputs[0].vector")),
    ([1] * 4097, (422, "wrong_dim", "inputs[0].vector")),
    ([None] + ONES[1:], (422, "wrong_type", "inputs[0].vector[0]")),
    (ONES[1:] + ["1"], (422, "wrong_type", "inputs[0].vector[15]")),
    ([True] + ONES[1:], (422, "wrong_type", "inputs[0].vector[0]")),
    ("1,2", (422, "wrong_type", "inputs[0].vector")),
    (None, (422, "wrong_type", "inputs[0].vector")),
])
def test_bad_vectors(shared, vectors, vector, refusal):
    shared.post("/v1/feedback", {"model": vectors, "vector": ONES, "label": "x"}, expect=202)
    assert shared.problem("POST", "/v1/classify",
                          {"model": vectors, "inputs": [{"vector": vector}]}) == refusal
    status, code, field = refusal
    item = {"model": vectors, "vector": vector, "label": "x"}
    assert shared.problem("POST", "/v1/feedback", item) == \
        (status, code, field.removeprefix("inputs[0]."))
    listed = shared.post("/v1/feedback", {"items": [item]}, expect=202)["rejected"][0]
    assert listed["code"] == code and listed["field"].endswith(field.removeprefix("inputs[0]."))
    assert shared.get(f"/v1/models/{vectors}")["examples"] == 1


@pytest.mark.parametrize("number, status, code", [
    ("NaN", 400, "malformed_json"), ("Infinity", 400, "malformed_json"),
    ("-Infinity", 400, "malformed_json"), ("1e999", 422, "out_of_range")])
def test_numbers_that_are_none(shared, vectors, number, status, code):
    body = f'{{"model":"{vectors}","inputs":[{{"vector":[{number}{",1" * (DIM - 1)}]}}]}}'
    assert shared.problem("POST", "/v1/classify", body)[:2] == (status, code)


def test_the_wrong_kind(shared, model, vectors):
    text, vector = {"text": "a", "id": "i"}, {"vector": ONES}
    classify = [
        ({"model": vectors, "inputs": [text]}, "vector_expected", "inputs[0].vector"),
        ({"model": vectors, "inputs": "a"}, "vector_expected", "inputs[0].vector"),
        ({"model": vectors, "inputs": [vector, text]}, "vector_expected", "inputs[1].vector"),
        ({"model": model, "inputs": [text, vector]}, "text_expected", "inputs[1].vector"),
        ({"model": vectors, "inputs": [{**vector, "text": "a"}]}, "conflicting_fields",
         "inputs[0].vector"),
        ({"model": vectors, "inputs": [{**vector, "text_pair": "a"}]}, "conflicting_fields",
         "inputs[0].vector"),
        ({"model": vectors, "inputs": [{"id": "a"}]}, "missing_field", "inputs[0].text"),
    ]
    for body, code, field in classify:
        assert shared.problem("POST", "/v1/classify", body) == (422, code, field)
    feedback = [
        ({"model": vectors, "text": "a", "label": "x"}, "vector_expected", "vector"),
        ({"model": model, "vector": ONES, "label": "x"}, "text_expected", "vector"),
        ({"model": vectors, "vector": ONES}, "missing_field", "label"),
        ({"model": vectors, "vector": ONES, "text": "a", "label": "x"}, "conflicting_fields",
         "vector"),
        ({"model": vectors, "vector": ONES, "text_pair": "a", "label": "x"}, "conflicting_fields",
         "text_pair"),
    ]
    for body, code, field in feedback:
        assert shared.problem("POST", "/v1/feedback", body) == (422, code, field)
    assert shared.problem("POST", "/v1/embed", {"model": vectors, "inputs": "a"}) == \
        (422, "no_encoder", "model")
    assert shared.problem("POST", "/v1/embed", {"model": model, "inputs": [vector]}) == \
        (422, "text_expected", "inputs[0].vector")


@pytest.mark.parametrize("fields, code, field", [
    ({"encoder": "none"}, "missing_field", "dim"),
    ({"encoder": "none", "dim": 4, "kind": "multi"}, "kind_unsupported", "kind"),
    ({"dim": 4}, "conflicting_fields", "dim"),
    ({"encoder": "default", "dim": 4}, "conflicting_fields", "dim"),
    ({"encoder": "none", "dim": 1}, "out_of_range", "dim"),
    ({"encoder": "none", "dim": 4097}, "out_of_range", "dim"),
    ({"encoder": "none", "dim": 2.5}, "wrong_type", "dim"),
    ({"encoder": "none", "dim": 4, "settings": {"dim": 4}}, "unknown_field", "settings.dim"),
    ({"encoder": "other", "dim": 4}, "invalid_value", "encoder"),
])
def test_bad_models(shared, fields, code, field):
    assert shared.problem("POST", "/v1/models", {"name": "bad-vectors", **fields}) == \
        (422, code, field)
