"""Every route, with no key and with each kind of key: the table that the issue asks for.

It is made from openapi.json alone: each operation says its x-role. `python3 -m pytest -s -k table
e2e/test_roles.py` prints it.
"""
import json
import re
from datetime import datetime, timedelta

import pytest
import requests

from learnd_process import ROOT, problem_of

RANK = ["none", "predict", "annotate", "admin"]
DOCUMENT = json.loads((ROOT / "proto" / "openapi.json").read_text())
OPERATIONS = [(method.upper(), path, operation["x-role"])
              for path, methods in DOCUMENT["paths"].items()
              for method, operation in methods.items()]
CALLERS = ["no key", "wrong", "expired", "revoked", "predict", "annotate", "admin"]


def test_every_operation_says_its_role():
    """And the same one as the daemon's table."""
    table = (ROOT / "daemon" / "front" / "handlers.c").read_text()
    says = {(m, p): r.lower().replace("metrics", "predict")
            for m, p, r in re.findall(r'\{"([A-Z]+)", "(/[^"]*)", handle_\w+,\s+ROLE_(\w+)', table)}
    assert says == {(m, re.sub(r"\{[^}]*\}", "{}", p)): role for m, p, role in OPERATIONS}
    for path in DOCUMENT["paths"]:
        for operation in DOCUMENT["paths"][path].values():
            if operation["x-role"] == "none":
                assert operation["security"] == []
            else:
                assert {"401", "403", "429"} <= operation["responses"].keys(), path


@pytest.fixture(scope="module")
def keys(shared):
    """A key of each kind. The shared daemon is this file's own."""
    def create(name, role, **more):
        return shared.post("/v1/keys", {"name": name, "role": role, **more}, expect=201)
    made = {"admin": create("admin", "admin")}
    shared.session.headers["Authorization"] = f"Bearer {made['admin']['key']}"
    for role in ("predict", "annotate"):
        made[role] = create(role, role)
    made["revoked"] = create("revoked", "admin")
    shared.delete(f"/v1/keys/{made['revoked']['id']}")
    now = shared.get("/v1/keys")["keys"][0]["last_used"]
    made["expired"] = create("expired", "admin", expires_at=soon(now))
    while requests.get(shared.url + "/v1/me", timeout=60, headers={
            "Authorization": f"Bearer {made['expired']['key']}"}).status_code != 401:
        pass
    found = {name: key["key"] for name, key in made.items()}
    return {**found, "wrong": "lk_" + "0" * 64, "no key": None}


def soon(time):
    """Half a second later."""
    at = datetime.fromisoformat(time.replace("Z", "+00:00")) + timedelta(seconds=0.5)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def call(shared, keys, caller, method, path):
    """The status of one call that changes nothing: no such thing, or a body that is none."""
    path = re.sub(r"\{[^}]*\}", "nobody", path)
    headers = {"Authorization": f"Bearer {keys[caller]}"} if keys[caller] else {}
    if method in ("POST", "PATCH"):
        headers["Content-Type"] = "application/json"
    answer = requests.request(method, shared.url + path, headers=headers, timeout=60, stream=True,
                              data="{" if method in ("POST", "PATCH") else None)
    with answer:
        if answer.status_code in (401, 403, 429):
            code = problem_of(answer)[1]
            assert code == {401: "unauthorized", 403: "forbidden"}[answer.status_code]
            assert (answer.status_code == 401) == ("WWW-Authenticate" in answer.headers)
    return answer.status_code


def expected(caller, role):
    """401, 403, or None: it is let in, whatever comes then."""
    if role == "none":
        return None
    if caller not in RANK:
        return 401
    return None if RANK.index(caller) >= RANK.index(role) else 403


@pytest.mark.sanitizer
def test_table(shared, keys):
    rows, wrong = [], []
    for method, path, role in OPERATIONS:
        row = []
        for caller in CALLERS:
            status = call(shared, keys, caller, method, path)
            should = expected(caller, role)
            row.append(status)
            if (status if status in (401, 403) else None) != should or status >= 500:
                wrong.append((method, path, caller, status, should))
        rows.append((f"{method} {path}", role, row))
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'route':{width}}  {'needs':9}" + "".join(f"{c:>9}" for c in CALLERS))
    for name, role, row in rows:
        print(f"{name:{width}}  {role:9}" + "".join(f"{s:>9}" for s in row))
    assert wrong == []
    assert len(rows) * len(CALLERS) > 200


def test_what_has_no_route_tells_nothing(shared, keys):
    """The same answer for everybody."""
    for caller in CALLERS:
        assert call(shared, keys, caller, "GET", "/v1/nothing") == 404
        assert call(shared, keys, caller, "PUT", "/v1/models") == 405
