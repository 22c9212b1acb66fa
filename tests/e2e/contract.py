"""Holds answers against the daemon's own /openapi.json. conftest.py has every answer of the suite
pass through here."""
import json
import re

import jsonschema

CHECKED_BYTES = 400_000  # larger answers are more of the same


class Contract:
    def __init__(self, document):
        self.document = document
        self.paths = [(re.compile("^" + re.sub(r"\{[^}]*\}", "[^/]+", p) + "$"), p)
                      for p in document["paths"]]
        self.seen = set()  # (method, path pattern, status)
        self.validators = {}

    def lookup(self, ref):
        node = self.document
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        return node

    def response(self, pattern, method, status):
        responses = self.document["paths"][pattern][method]["responses"]
        node = responses.get(str(status), responses.get("default"))
        assert node is not None, f"{method} {pattern} has no {status}"
        assert status >= 400 or str(status) in responses, f"{method} {pattern}: {status}"
        return self.lookup(node["$ref"]) if "$ref" in node else node

    def validator(self, schema):
        key = json.dumps(schema)
        if key not in self.validators:
            whole = {"components": self.document["components"], **schema}
            self.validators[key] = jsonschema.Draft202012Validator(whole)
        return self.validators[key]

    def check(self, method, path, answer):
        """Asserts that the status is foreseen, that the type is one of it, and that the body has
        its shape."""
        method, path = method.lower(), path.split("?")[0]
        if method in ("head", "options") or len(answer.content) > CHECKED_BYTES:
            return
        for expression, pattern in self.paths:
            if expression.match(path) and method in self.document["paths"][pattern]:
                break
        else:
            assert answer.status_code in (404, 405), f"{method} {path} is not in the contract"
            self.check_body(self.lookup("#/components/responses/Problem"), answer)
            return
        self.seen.add((method, pattern, answer.status_code))
        self.check_body(self.response(pattern, method, answer.status_code), answer)

    def check_event(self, kind, data):
        """Data of an event stream."""
        media = self.document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
        self.seen.add(("get", "/v1/events", 200))
        self.validator(media["text/event-stream"]["x-event-data"][kind]).validate(data)

    def check_body(self, response, answer):
        if "content" not in response:
            assert answer.content == b""
            return
        kind = answer.headers["Content-Type"].split(";")[0]
        assert kind in response["content"], f"{kind} is not foreseen: {list(response['content'])}"
        if kind.endswith("json"):
            self.validator(response["content"][kind]["schema"]).validate(answer.json())
