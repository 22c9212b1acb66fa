"""Everything that can be wrong with a request: the status, the code and the field that a person
needs, and nothing lost.

The daemon is one for the whole file, and what it was taught at the start is still there at the end.
"""
import json

import pytest

from learnd_process import problem_of

CLASSIFY, FEEDBACK, EMBED = "/v1/classify", "/v1/feedback", "/v1/embed"
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module", autouse=True)
def taught(shared):
    shared.teach([("my card never came", "card"), ("where is my money", "cash")])
    before = shared.ask(["my card never came", "something"], top_k=10)
    yield
    after = shared.ask(["my card never came", "something"], top_k=10)
    assert after["version"] == before["version"], "something of a bad request was kept"
    for old, new in zip(before["results"], after["results"], strict=True):
        assert old["labels"] == new["labels"]


# ---- JSON itself

@pytest.mark.sanitizer
@pytest.mark.parametrize("body, status, code, field", [
    (b"", 400, "malformed_json", None),
    (b"{", 400, "malformed_json", None),
    (b"{\"inputs\":\"a\"} x", 400, "malformed_json", None),
    (b"{\"inputs\":\"a\",}", 400, "malformed_json", None),
    (b"{'inputs':'a'}", 400, "malformed_json", None),
    (b"{\"inputs\":\"\xff\xfe\"}", 400, "invalid_utf8", None),
    (b"{\"inputs\":\"\\ud800\"}", 400, "malformed_json", None),
    (b"{\"inputs\":\"a\",\"inputs\":\"b\"}", 400, "duplicate_field", None),
    (b"{\"inputs\":" + b"[" * 100000, 400, "too_deep", None),
    (b"[]", 422, "wrong_type", None),
    (b"\"text\"", 422, "wrong_type", None),
    (b"null", 422, "wrong_type", None),
    (b"{\"inputs\":NaN}", 400, "malformed_json", None),
])
@pytest.mark.parametrize("path", [CLASSIFY, EMBED, FEEDBACK, "/v1/models"])
def test_malformed_json(shared, path, body, status, code, field):
    if path in (FEEDBACK, "/v1/models"):
        body = body.replace(b"inputs", b"model" if path == FEEDBACK else b"name")
    assert shared.problem("POST", path, body) == (status, code, field)


# ---- asking

@pytest.mark.sanitizer
@pytest.mark.parametrize("fields, status, code, field", [
    ({}, 422, "missing_field", "inputs"),
    ({"inputs": ""}, 422, "empty_text", "inputs"),
    ({"inputs": []}, 422, "out_of_range", "inputs"),
    ({"inputs": ["a", ""]}, 422, "empty_text", "inputs[1]"),
    ({"inputs": ["a", 1]}, 422, "wrong_type", "inputs[1]"),
    ({"inputs": ["a", None]}, 422, "wrong_type", "inputs[1]"),
    ({"inputs": ["a", {"text": "b"}]}, 422, "wrong_type", "inputs[1]"),
    ({"inputs": [{"text": "a"}, {"text": ""}]}, 422, "empty_text", "inputs[1].text"),
    ({"inputs": [{"text": "a", "text_pair": ""}]}, 422, "empty_text", "inputs[0].text_pair"),
    ({"inputs": [{"id": "a"}]}, 422, "missing_field", "inputs[0].text"),
    ({"inputs": [{"text": "a", "txet": 1}]}, 422, "unknown_field", "inputs[0].txet"),
    ({"inputs": [{"text": "a", "id": "x" * 129}]}, 422, "invalid_name", "inputs[0].id"),
    ({"inputs": 7}, 422, "wrong_type", "inputs"),
    ({"inputs": {"text": "a"}}, 422, "wrong_type", "inputs"),
    ({"inputs": ["a"] * 257}, 422, "too_many_inputs", "inputs"),
    ({"inputs": "a", "model": "nobody"}, 404, "unknown_model", "model"),
    ({"inputs": "a", "model": ""}, 422, "invalid_name", "model"),
    ({"inputs": "a", "model": 1}, 422, "wrong_type", "model"),
    ({"inputs": "a", "top_k": 0}, 422, "out_of_range", "top_k"),
    ({"inputs": "a", "top_k": 1001}, 422, "out_of_range", "top_k"),
    ({"inputs": "a", "top_k": 1.5}, 422, "wrong_type", "top_k"),
    ({"inputs": "a", "top_k": "3"}, 422, "wrong_type", "top_k"),
    ({"inputs": "a", "threshold": -0.1}, 422, "out_of_range", "threshold"),
    ({"inputs": "a", "threshold": 1.1}, 422, "out_of_range", "threshold"),
    ({"inputs": "a", "threshold": "high"}, 422, "wrong_type", "threshold"),
    ({"inputs": "a", "labels": []}, 422, "out_of_range", "labels"),
    ({"inputs": "a", "labels": ["card", "nope"]}, 422, "unknown_label", "labels[1]"),
    ({"inputs": "a", "labels": ["card", "card"]}, 422, "invalid_value", "labels"),
    ({"inputs": "a", "labels": ["card", ""]}, 422, "invalid_name", "labels[1]"),
    ({"inputs": "a", "labels": "card"}, 422, "wrong_type", "labels"),
    ({"inputs": "a", "truncate": "middle"}, 422, "invalid_value", "truncate"),
    ({"inputs": "a", "explain": 1}, 422, "wrong_type", "explain"),
    ({"inputs": "a", "store": "no"}, 422, "wrong_type", "store"),
    ({"inputs": "a", "version": "two"}, 422, "invalid_version", "version"),
    ({"inputs": "a", "version": "0.00"}, 422, "invalid_version", "version"),
    ({"inputs": "a", "version": "0.999999"}, 404, "unknown_version", "version"),
    ({"inputs": "a", "version": "7.1"}, 404, "unknown_version", "version"),
    ({"inputs": "a", "deadline_ms": 0}, 422, "out_of_range", "deadline_ms"),
    ({"inputs": "a", "deadline_ms": -5}, 422, "out_of_range", "deadline_ms"),
    ({"inputs": "a", "temperature": 1}, 422, "unknown_field", "temperature"),
    ({"inputs": "word " * 2000, "truncate": "never"}, 422, "text_too_long", "inputs"),
    ({"inputs": ["a", "word " * 2000], "truncate": "never"}, 422, "text_too_long", "inputs[1]"),
    ({"inputs": [{"text": "a"}, {"text": "word " * 2000}], "truncate": "never"}, 422,
     "text_too_long", "inputs[1].text"),
])
def test_classify(shared, fields, status, code, field):
    assert shared.problem("POST", CLASSIFY, fields) == (status, code, field)
    if set(fields) <= {"inputs", "model", "truncate"}:
        assert shared.problem("POST", EMBED, fields) == (status, code, field)


def test_embed_has_fewer_fields(shared):
    assert shared.problem("POST", EMBED, {"inputs": "a", "top_k": 1}) == \
        (422, "unknown_field", "top_k")


# ---- teaching: alone, in a list and as a line of ndjson an item meets the same rules

ITEMS = [
    ({}, 422, "missing_field", "text"),
    ({"text": "a"}, 422, "missing_field", "label"),
    ({"label": "x"}, 422, "missing_field", "text"),
    ({"text": "", "label": "x"}, 422, "empty_text", "text"),
    ({"text": 5, "label": "x"}, 422, "wrong_type", "text"),
    ({"text": "a", "label": ""}, 422, "invalid_name", "label"),
    ({"text": "a", "label": "x" * 129}, 422, "invalid_name", "label"),
    ({"text": "a", "label": "a\nb"}, 422, "invalid_name", "label"),
    ({"text": "a", "label": None}, 422, "wrong_type", "label"),
    ({"text": "a", "labels": ["x", "y"]}, 422, "kind_unsupported", "labels"),
    ({"text": "a", "labels": []}, 422, "kind_unsupported", "labels"),
    ({"text": "a", "label": "x", "labels": ["x"]}, 422, "conflicting_fields", "labels"),
    ({"text": "a", "request_id": "r", "label": "x"}, 422, "conflicting_fields", "text"),
    ({"text": "a", "example": ID, "label": "x"}, 422, "conflicting_fields", "example"),
    ({"text_pair": "b", "example": ID, "label": "x"}, 422, "conflicting_fields", "text_pair"),
    ({"text": "a", "label": "x", "weight": 0}, 422, "out_of_range", "weight"),
    ({"text": "a", "label": "x", "weight": -1}, 422, "out_of_range", "weight"),
    ({"text": "a", "label": "x", "weight": 1e9}, 422, "out_of_range", "weight"),
    ({"text": "a", "label": "x", "weight": "1"}, 422, "wrong_type", "weight"),
    ({"text": "a", "label": "x", "action": "forget"}, 422, "invalid_value", "action"),
    ({"text": "a", "action": "withdraw"}, 422, "missing_field", "example"),
    ({"example": ID, "label": "x", "action": "withdraw"}, 422, "conflicting_fields", "label"),
    ({"example": ID, "action": "withdraw"}, 404, "unknown_example", "example"),
    ({"example": ID, "label": "card"}, 404, "unknown_example", "example"),
    ({"example": "short", "label": "x"}, 422, "invalid_id", "example"),
    ({"request_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "label": "x"}, 404, "unknown_request",
     "request_id"),
    ({"request_id": "x" * 65, "label": "x"}, 422, "invalid_id", "request_id"),
    ({"text": "a", "label": "x", "model": "nobody"}, 404, "unknown_model", "model"),
    ({"text": "a", "label": "never seen", "create_labels": False}, 422, "unknown_label", "label"),
    ({"text": "a", "label": "never seen", "action": "reject"}, 422, "unknown_label", "label"),
    ({"text": "a", "label": "x", "idempotency_key": ""}, 422, "invalid_name", "idempotency_key"),
    ({"text": "a", "label": "x", "annotator": "a\u0000b"}, 422, "invalid_name", "annotator"),
    ({"text": "a", "label": "x", "create_labels": "yes"}, 422, "wrong_type", "create_labels"),
    ({"text": "a", "label": "x", "lable": "x"}, 422, "unknown_field", "lable"),
]


@pytest.mark.sanitizer
@pytest.mark.parametrize("item, status, code, field", ITEMS)
def test_feedback_alone(shared, item, status, code, field):
    assert shared.problem("POST", FEEDBACK, item) == (status, code, field)


@pytest.mark.sanitizer
def test_a_bad_item_never_sinks_its_neighbours(shared, model):
    """Good and bad items in turn: every good one is kept, every bad one says which and why."""
    def with_model(item):
        return item if "model" in item else {**item, "model": model}
    items = []
    for i, (bad, *_) in enumerate(ITEMS):
        items += [{"model": model, "text": f"good {i}", "label": "good"}, with_model(bad)]
    for answer in (shared.post(FEEDBACK, {"items": items}, expect=202), shared.ndjson(items)):
        assert len(answer["accepted"]) == len(ITEMS)
        got = {r["index"]: (r["code"], r.get("field")) for r in answer["rejected"]}
        assert got == {2 * i + 1: (code, field) for i, (_, _, code, field) in enumerate(ITEMS)}
    rows = shared.get(f"/v1/models/{model}/examples?limit=1000")["examples"]
    assert sorted(r["text"] for r in rows) == sorted(f"good {i}" for i in range(len(ITEMS)))


@pytest.mark.parametrize("body, status, code, field", [
    ({"items": []}, 422, "out_of_range", "items"),
    ({"items": "x"}, 422, "wrong_type", "items"),
    ({"items": [{"text": "a", "label": "x"}] * 1001}, 422, "too_many_items", "items"),
    ({"items": [{"text": "a", "label": "x"}] * 100000}, 422, "too_many_items", "items"),
    ({"items": [{"text": "a", "label": "x"}], "text": "b"}, 422, "unknown_field", "text"),
    ({"items": [{"text": "a", "label": "x"}], "wait": "none"}, 422, "invalid_value", "wait"),
    ({"text": "a", "label": "x", "wait": "none"}, 422, "invalid_value", "wait"),
    ({"text": "a", "label": "x", "wait": 1}, 422, "wrong_type", "wait"),
], ids=str)
def test_feedback_batch(shared, body, status, code, field):
    assert shared.problem("POST", FEEDBACK, body) == (status, code, field)


def test_item_that_is_no_object(shared):
    answer = shared.post(FEEDBACK, {"items": [1, "a", None, []]}, expect=202)
    assert [r["code"] for r in answer["rejected"]] == ["wrong_type"] * 4
    assert answer["accepted"] == [] and answer["version"] is None


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_weights_that_are_no_numbers(shared, weight):
    body = f'{{"text":"a","label":"x","weight":{weight}}}'.encode()
    status, code, field = shared.problem("POST", FEEDBACK, body)
    assert (status, code) in ((400, "malformed_json"), (422, "out_of_range"))
    assert field in (None, "weight")


@pytest.mark.sanitizer
def test_bad_lines_of_ndjson(shared, model):
    good = json.dumps({"model": model, "text": "good", "label": "x"}).encode()
    long_line = json.dumps({"model": model, "text": "x" * (1 << 20), "label": "x"}).encode()
    lines = [good, b"{", b"", b"\xff\xfe", b"[]", b"{\"items\":[]}", long_line, good, b"null"]
    answer = shared.post(FEEDBACK, b"\n".join(lines), expect=202,
                         headers={"Content-Type": "application/x-ndjson"})
    assert answer["accepted_count"] == 2 and answer["rejected_count"] == 6
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [
        (1, "malformed_json"), (3, "invalid_utf8"), (4, "wrong_type"), (5, "unknown_field"),
        (6, "line_too_long"), (8, "wrong_type")]


def test_same_key_another_body(shared, model):
    body = {"model": model, "text": "a", "label": "x", "idempotency_key": "k1"}
    shared.post(FEEDBACK, body, expect=202)
    assert shared.problem("POST", FEEDBACK, {**body, "label": "y"}) == \
        (409, "idempotency_conflict", "idempotency_key")
    answer = shared.post(FEEDBACK, {"items": [{**body, "text": "b"}, body]}, expect=202)
    assert answer["rejected"][0]["code"] == "idempotency_conflict"
    assert answer["accepted"][0]["duplicate"] is True
    (row,) = shared.get(f"/v1/models/{model}/examples")["examples"]
    assert row["text"] == "a" and row["label"] == "x"


def test_bad_idempotency_headers(shared):
    one = {"text": "a", "label": "x"}
    for body, key in ((one, "k" * 129), ({"items": [one]}, "k")):
        assert problem_of(shared.call("POST", FEEDBACK, body, headers={"Idempotency-Key": key})) \
            == (422, "invalid_value", "Idempotency-Key")


def test_items_of_several_models_cannot_wait_together(shared, model):
    items = [{"text": "a", "label": "x", "model": m} for m in (model, "default")]
    assert shared.problem("POST", FEEDBACK, {"items": items, "wait": "applied"}) == \
        (422, "invalid_value", "wait")


# ---- managing

@pytest.mark.sanitizer
@pytest.mark.parametrize("method, path, body, status, code, field", [
    ("POST", "/v1/models", {}, 422, "missing_field", "name"),
    ("POST", "/v1/models", {"name": ""}, 422, "invalid_name", "name"),
    ("POST", "/v1/models", {"name": "a/b"}, 422, "invalid_name", "name"),
    ("POST", "/v1/models", {"name": ".."}, 422, "invalid_name", "name"),
    ("POST", "/v1/models", {"name": "x" * 129}, 422, "invalid_name", "name"),
    ("POST", "/v1/models", {"name": "default"}, 409, "model_exists", "name"),
    ("POST", "/v1/models", {"name": "n", "kind": "tokens"}, 422, "kind_unsupported", "kind"),
    ("POST", "/v1/models", {"name": "n", "kind": "fuzzy"}, 422, "invalid_value", "kind"),
    ("POST", "/v1/models", {"name": "n", "encoder": "e5"}, 422, "invalid_value", "encoder"),
    ("POST", "/v1/models", {"name": "n", "settings": {"features": 1}}, 422, "out_of_range",
     "settings.features"),
    ("POST", "/v1/models", {"name": "n", "settings": {"budget": 1}}, 422, "unknown_field",
     "settings.budget"),
    ("POST", "/v1/models", {"name": "n", "settings": []}, 422, "wrong_type", "settings"),
    ("PATCH", "/v1/models/default", {}, 422, "missing_field", "settings"),
    ("PATCH", "/v1/models/default", {"settings": {"features": 64}}, 422, "immutable_field",
     "settings.features"),
    ("PATCH", "/v1/models/default", {"settings": {"score_min": 2}}, 422, "out_of_range",
     "settings.score_min"),
    ("PATCH", "/v1/models/nobody", {"settings": {}}, 404, "unknown_model", None),
    ("GET", "/v1/models/nobody", None, 404, "unknown_model", None),
    ("DELETE", "/v1/models/%C2%84", None, 404, "unknown_model", None),
    ("DELETE", "/v1/models/.a", None, 404, "unknown_model", None),
    ("POST", "/v1/feedback?wait=never", {"text": "a", "label": "x"}, 422, "invalid_value", "wait"),
    ("POST", "/v1/feedback?wait=%zz", {"text": "a", "label": "x"}, 422, "invalid_value", "wait"),
    ("GET", "/v1/models/nobody/labels", None, 404, "unknown_model", None),
    ("GET", "/v1/models/nobody/examples", None, 404, "unknown_model", None),
    ("GET", "/v1/models/nobody/review", None, 404, "unknown_model", None),
    ("GET", "/v1/models/nobody/next", None, 404, "unknown_model", None),
    ("GET", "/v1/models/default/review?kind=all", None, 422, "invalid_value", "kind"),
    ("GET", "/v1/models/default/review?kind=", None, 422, "invalid_value", "kind"),
    ("GET", f"/v1/models/default/review?kind={'x' * 100}", None, 422, "invalid_value", "kind"),
    ("GET", "/v1/models/default/review?limit=0", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/review?limit=1001", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/review?cursor=zzz", None, 422, "invalid_cursor", "cursor"),
    ("GET", f"/v1/models/default/review?cursor={ID}", None, 422, "invalid_cursor", "cursor"),
    ("GET", "/v1/models/default/next?limit=0", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/next?limit=many", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/next?seed=-1", None, 422, "out_of_range", "seed"),
    ("GET", "/v1/models/default/next?seed=1.5", None, 422, "out_of_range", "seed"),
    ("GET", "/v1/models/default/next?seed=9007199254740992", None, 422, "out_of_range", "seed"),
    ("GET", "/v1/models/default/next?random_share=1.1", None, 422, "out_of_range",
     "random_share"),
    ("GET", "/v1/models/default/next?random_share=-0.1", None, 422, "out_of_range",
     "random_share"),
    ("GET", "/v1/models/default/next?random_share=nan", None, 422, "out_of_range",
     "random_share"),
    ("PATCH", "/v1/models/default", {"settings": {"annotator_rate_max": -1}}, 422,
     "out_of_range", "settings.annotator_rate_max"),
    ("PATCH", "/v1/models/default", {"settings": {"annotator_influence_max": 2}}, 422,
     "out_of_range", "settings.annotator_influence_max"),
    ("GET", "/v1/models/nobody/versions", None, 404, "unknown_model", None),
    ("POST", "/v1/models/nobody/labels", {"label": "x"}, 404, "unknown_model", None),
    ("POST", "/v1/models/default/labels", {}, 422, "missing_field", "label"),
    ("POST", "/v1/models/default/labels", {"label": "card"}, 409, "label_exists", "label"),
    ("POST", "/v1/models/default/labels", {"label": "a\tb"}, 422, "invalid_name", "label"),
    ("GET", "/v1/models/default/versions/x", None, 422, "invalid_version", "version"),
    ("GET", "/v1/models/default/versions/0.99999", None, 404, "unknown_version", "version"),
    ("GET", "/v1/models/default/examples?limit=0", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/examples?limit=1001", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/examples?limit=ten", None, 422, "out_of_range", "limit"),
    ("GET", "/v1/models/default/examples?cursor=zzz", None, 422, "invalid_cursor", "cursor"),
    ("GET", "/v1/models/default/examples?q=%00", None, 422, "invalid_value", "q"),
    ("GET", "/v1/examples/xyz", None, 422, "invalid_id", "id"),
    ("GET", "/v1/examples/" + ID, None, 404, "unknown_example", "id"),
    ("DELETE", "/v1/examples/xyz", None, 422, "invalid_id", "id"),
    ("GET", "/v1/requests/unheard-of", None, 404, "unknown_request", "id"),
])
def test_managing(shared, method, path, body, status, code, field):
    assert shared.problem(method, path, body) == (status, code, field)


def test_a_body_where_none_is_taken(shared):
    assert shared.problem("DELETE", "/v1/models/nobody", {"a": 1})[0] == 413


# ---- problems never repeat what was sent

def test_problems_keep_texts_to_themselves(shared):
    secret = "zebrafish"
    bodies = [
        {"inputs": [(secret + " ") * 2000], "truncate": "never"},
        {"inputs": secret, "labels": [secret]},
        {"inputs": secret, "model": secret},
        {"inputs": secret, "truncate": secret},
    ]
    for body in bodies:
        answer = shared.call("POST", CLASSIFY, body)
        assert answer.status_code in (404, 422) and secret not in answer.text
    for body in (f'{{"inputs": "{secret}', f'{{"inputs": {secret}}}'):
        assert secret not in shared.call("POST", CLASSIFY, body).text
    for item in ({"text": secret, "label": secret + "\n"}, {"text": secret, "example": secret},
                 {"example": secret}, {"request_id": secret, "label": "x"}):
        assert secret not in shared.call("POST", FEEDBACK, item).text
    assert secret not in shared.text()
