"""What schemathesis cannot guess from the contract: names that exist. Loaded by schemathesis_run.sh.

Three of four generated requests that are meant to be good are about models, labels, examples,
requests, versions and runs that the daemon holds (LEARND_NAMES, a JSON object of lists), so that
they reach what lies behind the 404; the rest, and all that are meant to be bad, stay as they were
made. The choice is a hash of what was made: a seed gives the same run.
"""
import hashlib
import json
import os

import schemathesis

NAMES = json.loads(os.environ["LEARND_NAMES"])
# Under these names values of the contract stand for what is in a list of NAMES.
STANDS_FOR = {"model": "models", "from": "models", "label": "labels", "into": "labels",
              "example": "examples", "request_id": "requests", "run": "runs"}


def chosen(seed, values):
    """One of them, or None one time in four."""
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:8], "big")
    return values[number // 4 % len(values)] if number % 4 else None


def known(name, value, path):
    if name == "id":
        name = "example" if "examples" in path else "request_id"
    list_name = STANDS_FOR.get(name)
    if list_name is None or isinstance(value, (dict, list)):
        return value
    return chosen((name, value), NAMES[list_name]) or value


def settled(value, path):
    """A body with known names in it, at any depth."""
    if isinstance(value, dict):
        return {k: [chosen((k, i, v), NAMES[k]) or v for i, v in enumerate(value[k])]
                if k in ("labels", "examples") and isinstance(value[k], list)
                else settled(known(k, v, path), path) for k, v in value.items()}
    if isinstance(value, list):
        return [settled(v, path) for v in value]
    return value


def one_of(body, names, otherwise=None):
    """Fields that exclude each other: the first stays."""
    there = [n for n in names if n in body]
    for name in there[1:]:
        del body[name]
    if not there and otherwise:
        body[otherwise[0]] = otherwise[1]


def agreed(body, path):
    """What JSON schema cannot say: which fields go together."""
    if path == "/v1/feedback":
        for item in body.get("items", [body]):
            if isinstance(item, dict):
                one_of(item, ("text", "example", "request_id", "vector"), ("text", "made here"))
                one_of(item, ("label", "labels"), ("label", "a"))
                if "text" not in item:
                    item.pop("text_pair", None)
    elif path == "/v1/erase":
        one_of(body, ("text", "annotator"))
        if "text" not in body:
            body.pop("text_pair", None)
    elif path.endswith("/runs"):
        for name in ("alpha", "distill", "temperature", "feature", "lora", "steps_max", "folder"):
            body.pop(name, None)
        body["steps_max"] = 1
    elif path.endswith("/rollback"):
        one_of(body, ("encoder", "version"))
    return body


@schemathesis.hook
def map_case(context, case):  # noqa: ARG001
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return case
    path, method = case.operation.path, case.operation.method.upper()
    forgets = method == "DELETE" and path == "/v1/models/{model}"
    for part in (case.path_parameters, case.query):
        for name, value in list((part or {}).items()):
            if not forgets:
                part[name] = known(name, value, path)
    if isinstance(case.body, (dict, list)):
        made = path == "/v1/models"  # a name that is to be new stays new
        case.body = case.body if made else settled(case.body, path)
        if isinstance(case.body, dict) and chosen(case.body, [True]):
            case.body = agreed(case.body, path)
    return case


@schemathesis.hook
def before_call(context, case, kwargs):  # noqa: ARG001
    """What everything else is about stays: where a link would remove it, another model goes."""
    path = case.operation.path
    if case.method.upper() == "DELETE" and path == "/v1/models/{model}" and \
            case.path_parameters.get("model") in NAMES["models"]:
        case.path_parameters["model"] = "doomed"


@schemathesis.hook
def filter_failure(context, failure, case, response):  # noqa: ARG001
    """A list of corrections is judged item by item: a wrong one is told in `rejected` of a 202
    and never sinks its neighbours. That is the contract, not a wrong request that was taken. Nor is
    a 504 a fault where the question itself says how long it may take."""
    if response.status_code == 504 and isinstance(case.body, dict) and "deadline_ms" in case.body:
        return False
    if case.operation.path != "/v1/feedback" or response.status_code != 202:
        return True
    return not json.loads(response.content)["rejected"]
