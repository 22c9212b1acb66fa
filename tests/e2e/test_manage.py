"""Models, labels, examples, versions, info: what is listed, made, changed and removed."""
import pytest


def pages(daemon, path, plural, limit):
    """Every row of a list, page by page."""
    rows, cursor, calls = [], None, 0
    while True:
        query = f"{'&' if '?' in path else '?'}limit={limit}"
        query += f"&cursor={cursor}" if cursor else ""
        page = daemon.get(path + query)
        assert len(page[plural]) <= limit
        rows += page[plural]
        calls += 1
        cursor = page["next_cursor"]
        if cursor is None:
            return rows
        assert calls < 10000


# ---- models

@pytest.mark.sanitizer
def test_life_of_a_model(shared):
    made = shared.post("/v1/models", {"name": "life", "kind": "single", "encoder": "default",
                                      "settings": {"features": 128, "rejection_budget": 0.02}},
                       expect=201)
    assert made["name"] == "life" and made["examples"] == made["labels"] == 0
    assert made["settings"] == {"features": 128, "seed": 1, "ridge_lambda": 0.15, "score_min": 0,
                                "rejection_budget": 0.02, "annotator_rate_max": 0,
                                "annotator_influence_max": 1}
    assert shared.get("/v1/models/life") == made
    assert shared.problem("POST", "/v1/models", {"name": "life"}) == (409, "model_exists", "name")
    shared.teach([("a", "x"), ("b", "x"), ("c", "y")], model="life")
    assert (shared.get("/v1/models/life")["examples"], shared.get("/v1/models/life")["labels"]) \
        == (3, 2)
    for _ in range(2):  # deleting twice is deleting once
        shared.delete("/v1/models/life")
    assert shared.problem("GET", "/v1/models/life") == (404, "unknown_model", None)
    assert shared.problem("POST", "/v1/classify", {"inputs": "a", "model": "life"}) == \
        (404, "unknown_model", "model")
    again = shared.post("/v1/models", {"name": "life"}, expect=201)
    assert again["examples"] == again["labels"] == 0
    (result,) = shared.ask("a", model="life")["results"]
    assert result["label"] is None, "the new model knows nothing of the old one"


def test_list_of_models(shared):
    names = {f"list-{i}" for i in range(25)}
    for name in sorted(names):
        shared.post("/v1/models", {"name": name}, expect=201)
    for limit in (1, 7, 1000):
        rows = pages(shared, "/v1/models", "models", limit)
        listed = [r["name"] for r in rows]
        assert len(listed) == len(set(listed)) and names | {"default"} <= set(listed)
    for name in names:
        shared.delete(f"/v1/models/{name}")
    assert names.isdisjoint(r["name"] for r in pages(shared, "/v1/models", "models", 1000))


@pytest.mark.sanitizer
def test_settings(shared, model):
    shared.teach([("a b", "x"), ("c d", "y")], model=model)
    assert shared.ask("a b", model=model)["results"][0]["abstain"] is False
    changed = shared.patch(f"/v1/models/{model}", {"settings": {"score_min": 0.999999}})
    assert changed["settings"]["score_min"] == 0.999999
    assert shared.ask("a b", model=model)["results"][0]["abstain"] is True
    changed = shared.patch(f"/v1/models/{model}", {"settings": {"rejection_budget": 0.1}})
    assert changed["settings"]["score_min"] == 0.999999, "a patch keeps what it does not name"
    same = {"settings": {"features": changed["settings"]["features"], "score_min": 0.0}}
    assert shared.patch(f"/v1/models/{model}", same)["settings"]["score_min"] == 0


def test_default_can_be_removed_and_stays_so(daemon):
    """A name like any other: after a restart there is no default again, since there are other
    models."""
    daemon.post("/v1/models", {"name": "other"}, expect=201)
    daemon.delete("/v1/models/default")
    daemon.restart()
    assert [m["name"] for m in daemon.get("/v1/models")["models"]] == ["other"]
    assert daemon.problem("POST", "/v1/classify", {"inputs": "a"}) == \
        (404, "unknown_model", "model")


def test_models_do_not_know_of_each_other(shared):
    for name, label in (("left", "l"), ("right", "r")):
        shared.post("/v1/models", {"name": name}, expect=201)
        shared.teach([("the same text", label)], model=name)
    for name, label in (("left", "l"), ("right", "r")):
        (result,) = shared.ask("the same text", model=name)["results"]
        assert result["label"] == label
        (row,) = shared.get(f"/v1/models/{name}/examples")["examples"]
        assert row["model"] == name
    (left,) = shared.get("/v1/models/left/examples")["examples"]
    assert shared.problem("POST", "/v1/feedback", {"model": "right", "example": left["example"],
                                                   "label": "r"}) == \
        (404, "unknown_example", "example")
    shared.delete("/v1/models/left")
    assert shared.ask("the same text", model="right")["results"][0]["label"] == "r"


# ---- labels

@pytest.mark.sanitizer
def test_labels(shared, model):
    path = f"/v1/models/{model}/labels"
    made = shared.post(path, {"label": "früh & spät"}, expect=201)
    assert made["label"] == "früh & spät" and made["examples"] == 0 and made["status"] == "active"
    shared.teach([("a", "z"), ("b", "y"), ("c", "z")], model=model)
    rows = shared.get(path)["labels"]
    assert [(r["label"], r["examples"]) for r in rows] == \
        [("früh & spät", 0), ("z", 2), ("y", 1)], "in order of creation"
    assert shared.problem("POST", path, {"label": "z"}) == (409, "label_exists", "label")
    for limit in (1, 2, 3, 4):
        assert pages(shared, path, "labels", limit) == rows


def test_a_label_is_a_version(shared, model):
    before = shared.get(f"/v1/models/{model}")["version"]
    shared.post(f"/v1/models/{model}/labels", {"label": "new"}, expect=201)
    after = shared.get(f"/v1/models/{model}")["version"]
    assert after != before and shared.ask("a", model=model)["version"] == after
    newest = shared.get(f"/v1/models/{model}/versions")["versions"][0]
    assert (newest["version"], newest["op"], newest["label"]) == (after, "label_add", "new")


# ---- examples

@pytest.fixture(scope="module")
def library(shared):
    """Fifty examples of three labels and two annotators, one rejected, one withdrawn."""
    shared.post("/v1/models", {"name": "library"}, expect=201)
    items = [{"text": f"text number {i} 100%", "label": f"l{i % 3}",
              "annotator": ("ann", "bob")[i % 2]} for i in range(50)]
    accepted = shared.teach(items, model="library")["accepted"]
    shared.teach([{"example": accepted[0]["example"], "action": "reject", "annotator": "carl"},
                  {"example": accepted[1]["example"], "action": "withdraw"}], model="library")
    return [a["example"] for a in accepted]


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_pages_of_examples(shared, library, limit):
    rows = pages(shared, "/v1/models/library/examples", "examples", limit)
    assert [r["example"] for r in rows] == library, "in order of arrival, each once"


@pytest.mark.parametrize("query, expected", [
    ("label=l1", {i for i in range(2, 50) if i % 3 == 1}),
    ("annotator=ann", {i for i in range(50) if i % 2 == 0}),
    ("annotator=carl", {0}),
    ("label=l2&annotator=bob", {i for i in range(50) if i % 3 == 2 and i % 2 == 1}),
    ("status=rejected", {0}),
    ("status=withdrawn", {1}),
    ("status=active", set(range(2, 50))),
    ("q=number+4", {4, *range(40, 50)}),
    ("q=100%25", set(range(50))),
    ("q=number%207", {7}),
    ("q=NUMBER%207", set()),
    ("q=_", set()),
    ("label=nobody", set()),
])
def test_filters(shared, library, query, expected):
    for limit in (3, 1000):
        rows = pages(shared, f"/v1/models/library/examples?{query}", "examples", limit)
        assert {library.index(r["example"]) for r in rows} == expected


def test_one_example(shared, library):
    row = shared.get(f"/v1/examples/{library[5]}")
    assert row["text"] == "text number 5 100%" and row["label"] == "l2"
    assert row["labels"] == [{"label": "l2", "share": 1}] and row["weight"] == 1
    assert row["first_seq"] == row["last_seq"]
    assert shared.get(f"/v1/examples/{library[5].upper()}") == row


@pytest.mark.sanitizer
def test_delete_example(shared, model):
    a, b = shared.teach([("a b", "x"), ("c d", "y")], model=model)["accepted"]
    version = shared.get(f"/v1/models/{model}")["version"]
    for _ in range(2):
        shared.delete(f"/v1/examples/{a['example']}")
    asked = shared.ask("a b", model=model, top_k=2)
    assert asked["version"] != version, "deleted is unlearned when it is answered"
    assert asked["results"][0]["label"] == "y"
    assert shared.problem("GET", f"/v1/examples/{a['example']}") == (404, "unknown_example", "id")
    assert [r["example"] for r in shared.get(f"/v1/models/{model}/examples")["examples"]] == \
        [b["example"]]
    assert shared.teach([("a b", "x")], model=model)["accepted"][0]["example"] == a["example"]
    shared.delete("/v1/examples/" + "0" * 32)


def test_a_deleted_text_is_forgotten_by_the_ring(shared, model):
    shared.teach([("a b", "x"), ("c d", "y")], model=model)
    (result,) = shared.ask("a b", model=model)["results"]
    (row,) = shared.get(f"/v1/models/{model}/examples?label=x")["examples"]
    shared.delete(f"/v1/examples/{row['example']}")
    assert shared.problem("GET", f"/v1/requests/{result['request_id']}")[:2] == \
        (404, "unknown_request")


# ---- versions

@pytest.mark.sanitizer
def test_versions(shared, model):
    named = [shared.get(f"/v1/models/{model}")["version"]]
    assert named == ["0.0"]
    example = None
    for i in range(12):
        answer = shared.teach([(f"text {i}", "x")], model=model)
        example = example or answer["accepted"][0]["example"]
        named.append(answer["version"])
    shared.delete(f"/v1/examples/{example}")
    named.append(shared.get(f"/v1/models/{model}")["version"])
    rows = shared.get(f"/v1/models/{model}/versions?limit=1000")["versions"]
    assert set(named) <= {r["version"] for r in rows}
    assert [r["state"] for r in rows] == ["live"] + ["past"] * (len(rows) - 1)
    assert rows[0]["op"] == "delete" and rows[0]["version"] == named[-1]
    assert rows[-1]["version"] == "0.0" and rows[-1]["op"] is None
    seqs = [r["seq"] for r in rows]
    assert seqs == sorted(seqs, reverse=True), "newest first"
    for limit in (1, 5):
        assert pages(shared, f"/v1/models/{model}/versions", "versions", limit) == rows
    for row in rows:
        assert shared.get(f"/v1/models/{model}/versions/{row['version']}") == row


def test_versions_of_other_models_are_not_ours(shared, model):
    theirs = shared.teach([("a", "x")], model="default")["version"]
    assert shared.problem("GET", f"/v1/models/{model}/versions/{theirs}") == \
        (404, "unknown_version", "version")


def test_cursors_of_other_lists_are_refused(shared, library):
    for i in range(3):
        shared.teach([(f"cursor {i}", f"cursor {i}")], model="default")
    cursor = shared.get("/v1/models/library/examples?limit=1")["next_cursor"]
    for path in ("/v1/models/default/examples", "/v1/models/library/labels", "/v1/models"):
        assert shared.problem("GET", f"{path}?cursor={cursor}") == (422, "invalid_cursor", "cursor")


# ---- about

def test_info(shared):
    info = shared.get("/v1/info")
    assert info["name"] == "learnd" and info["device"] == "cpu"
    assert len(info["encoder"]["sha256"]) == 64 and info["encoder"]["name"] == "tiny-encoder"
    assert info["limits"]["inputs"] == 256 and info["limits"]["items"] == 1000
    assert info["models"] == len(shared.get("/v1/models?limit=1000")["models"])
    before = info["seq"]
    shared.teach([("one more", "x")])
    assert shared.get("/v1/info")["seq"] > before


def test_requests(shared, model):
    shared.teach([("a b", "x")], model=model)
    asked = shared.ask(["a b", "c"], model=model)
    for result in asked["results"]:
        seen = shared.get(f"/v1/requests/{result['request_id']}")
        assert (seen["model"], seen["version"]) == (model, asked["version"])
        assert seen["label"] == result["label"]
        assert "text" not in seen
    shared.delete(f"/v1/models/{model}")
    assert shared.problem("GET", f"/v1/requests/{result['request_id']}")[0] == 404
