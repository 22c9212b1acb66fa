"""The contract that is served, the routes that exist and the answers that are given say the same.

Answers are held against it all over the suite (conftest.py); here every operation is called
at least once.
"""
import json
import re

import jsonschema
import pytest

from event_stream import EventStream
from learnd_process import ROOT


def operations(document):
    return {(method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
            for path, methods in document["paths"].items() for method in methods}


def test_what_is_served_is_the_file(shared):
    answer = shared.call("GET", "/openapi.json", expect=200)
    assert answer.json() == json.loads((ROOT / "proto" / "openapi.json").read_text())


def test_routes_and_operations_are_the_same():
    table = (ROOT / "daemon" / "front" / "handlers.c").read_text()
    routes = set(re.findall(r'\{"([A-Z]+)", "(/[^"]*)", handle_', table))
    document = json.loads((ROOT / "proto" / "openapi.json").read_text())
    assert routes == operations(document)


def test_every_schema_is_a_schema(contract):
    for schema in contract.document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.sanitizer
def test_every_operation_answers(shared, model, contract, make_daemon):
    """Each is called so that it succeeds, and the answer has its shape."""
    contract.seen.clear()
    keyed = make_daemon().start()  # the shared one stays without keys
    key = keyed.post("/v1/keys", {"name": "a", "role": "admin"}, expect=201)["key"]
    keyed.session.headers["Authorization"] = f"Bearer {key}"
    bot = keyed.post("/v1/keys", {"name": "b", "role": "predict", "rate_per_s": 5}, expect=201)
    keyed.get("/v1/me")
    keyed.get("/v1/keys")
    keyed.get("/v1/audit")
    keyed.delete(f"/v1/keys/{bot['id']}")
    shared.post("/v1/models", {"name": "contract"}, expect=201)
    shared.patch("/v1/models/contract", {"settings": {"score_min": 0.1}})
    shared.post(f"/v1/models/{model}/labels", {"label": "early"}, expect=201)
    taught = shared.teach([("one two", "x"), ("three four", "y")], model=model)
    asked = shared.ask([{"text": "one two", "text_pair": "b", "id": "q"}], model=model,
                       explain=True, top_k=3, threshold=0.0, labels=["x", "y"])
    shared.post("/v1/embed", {"inputs": ["one two"]})
    shared.get(f"/v1/requests/{asked['results'][0]['request_id']}")
    example = taught["accepted"][0]["example"]
    shared.get(f"/v1/examples/{example}")
    for path in ("/v1/models", "/v1/models/contract", f"/v1/models/{model}/labels",
                 f"/v1/models/{model}/examples", f"/v1/models/{model}/review",
                 f"/v1/models/{model}/next", f"/v1/models/{model}/versions",
                 f"/v1/models/{model}/evaluation",
                 f"/v1/models/{model}/versions/{taught['version']}", "/v1/info", "/health/live",
                 "/health/ready", "/openapi.json"):
        shared.get(path)
    for path in ("/metrics", "/", "/console/app.js"):
        shared.call("GET", path, expect=200)
    with EventStream(shared, f"types=label&model={model}") as stream:
        shared.post(f"/v1/models/{model}/labels", {"label": "event"}, expect=201)
        assert next(stream).kind == "label"
    label = f"/v1/models/{model}/labels/"
    shared.patch(label + "early", {"label": "late", "score_min": 0.5, "payload": {"any": [1, None]}})
    shared.post(label + "x/split", {"label": "late", "examples": [example]})
    shared.post(label + "late/merge", {"into": "y"})
    shared.delete(label + "x")
    shared.get(f"/v1/models/{model}/labels")
    shared.delete(f"/v1/examples/{example}")
    shared.post("/v1/erase", {"text": "three four", "model": model})
    shared.get(f"/v1/models/{model}/encoder")
    shared.call("GET", f"/v1/models/{model}/encoder/config.json", expect=200)
    shared.post(f"/v1/models/{model}/rollback", {"encoder": 0})
    run = shared.post(f"/v1/models/{model}/runs", {"strategy": "head"}, expect=202)["run"]
    shared.get("/v1/runs")
    shared.get(f"/v1/runs/{run}")
    while shared.call("DELETE", f"/v1/runs/{run}").status_code != 204:
        pass
    folder = str(ROOT / "tests" / "golden" / "tiny-encoder")
    run = shared.post(f"/v1/models/{model}/import", {"folder": folder}, expect=202)["run"]
    while shared.call("DELETE", f"/v1/runs/{run}").status_code != 204:
        pass
    shared.delete("/v1/models/contract")
    called = {(m.upper(), re.sub(r"\{[^}]*\}", "{}", p)) for m, p, status in contract.seen
              if status < 300}
    assert called == operations(contract.document)


def test_examples_of_the_contract_are_accepted(shared, contract):
    """What it shows as a request is one."""
    shared.post("/v1/models", {"name": "intents"}, expect=201)
    shared.teach([("a", "card_arrival"), ("b", "lost_card")], model="intents")
    schemas = contract.document["components"]["schemas"]
    for name, path, statuses in (("ClassifyRequest", "/v1/classify", {200}),
                                 ("EmbedRequest", "/v1/embed", {200}),
                                 ("FeedbackBatch", "/v1/feedback", {202}),
                                 ("LabelAdd", "/v1/models/intents/labels", {201, 409}),
                                 ("EraseRequest", "/v1/erase", {200}),
                                 ("ModelCreate", "/v1/models", {201, 409})):
        assert schemas[name]["examples"]
        for example in schemas[name]["examples"]:
            assert shared.call("POST", path, example).status_code in statuses, example
    for name, schema in schemas.items():
        for example in schema.get("examples", []):
            contract.validator({"$ref": f"#/components/schemas/{name}"}).validate(example)
