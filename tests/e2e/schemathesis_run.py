"""Runs schemathesis over the contract of a live daemon that has something to answer with.

    daemon = make_daemon(args=key_file(folder)).start()
    run(daemon, seconds, seed, folder) -> (exit status, what it printed)

It asks with a key of the daemon's admin-key-file, which no request can revoke. The daemon gets models of every kind, labels, examples, requests and a run, and schemathesis is told
their names (schemathesis_hooks.py). Left out is GET /v1/events, whose answer has no end
(test_events.py holds its every event against the contract), and the checks that are no promises of
this contract: positive_data_acceptance (a label that is unknown is well-formed and refused; JSON
schema cannot say it) and those about links between operations. Of methods that HTTP does not know
(QUERY) nothing is asked: they are no HTTP to the parser and end the connection with 400.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tools

SEED = 20261125
KEY = "the-key-of-the-file-that-nothing-revokes"
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
          "missing_required_header", "unsupported_method", "allow_header_conformance")
# 414 and 431: what a long value that is wrong can also be refused with.
CONFIG = """
[phases.coverage]
unexpected-methods = ["get", "put", "post", "delete", "patch", "options", "trace"]
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "409", "413", "414", "415", "422", "431"]
"""


def seed_daemon(daemon):
    """Something of everything; returns its names."""
    words = ["a", "b", "c"]
    for name, kind in (("m0", "single"), ("m1", "multi"), ("m2", "single")):
        daemon.post("/v1/models", {"name": name, "kind": kind}, expect=201)
        daemon.teach([{"text": f"text {i}", "annotator": "ann", "source": "src",
                       **({"labels": words[:i % 3 + 1]} if kind == "multi" else
                          {"label": words[i % 3]})} for i in range(60)], model=name)
    daemon.post("/v1/models", {"name": "vec", "encoder": "none", "dim": 4}, expect=201)
    rows = daemon.get("/v1/models/m0/examples?limit=20")["examples"]
    asked = daemon.ask(["text 1", "text 2"], model="m0")["results"]
    run = daemon.post("/v1/models/m0/runs", {"steps_max": 2, "force": True}, expect=202)["run"]
    return {"models": ["m0", "m1", "m2", "vec", "default"], "labels": words,
            "examples": [r["example"] for r in rows],
            "requests": [r["request_id"] for r in asked], "runs": [run]}


def key_file(folder):
    """Arguments for a daemon whose admin is not among the keys that are made and revoked here."""
    path = Path(folder) / "admin-key"
    path.write_text(KEY)
    path.chmod(0o600)
    return ["--admin-key-file", path]


def run(daemon, seconds, seed, folder):
    """Exit status 0: nothing found. daemon: with the arguments of key_file."""
    daemon.session.headers["Authorization"] = f"Bearer {KEY}"
    names = seed_daemon(daemon)
    (Path(folder) / "schemathesis.toml").write_text(CONFIG)
    env = {**os.environ, "LEARND_NAMES": json.dumps(names), "PYTHONHASHSEED": "0",
           "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [tools.schemathesis(), "run", f"{daemon.url}/openapi.json", "--url", daemon.url,
         "--exclude-path", "/v1/events", "--header", f"Authorization: Bearer {KEY}",
         "--max-time", str(seconds), "--seed", str(seed),
         "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color",
         "--generation-database", "none", "--request-timeout", "60"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=seconds + 600, check=False)
    return done.returncode, done.stdout + done.stderr


def summary(output):
    return output[output.find("=== SUMMARY"):] if "=== SUMMARY" in output else output[-3000:]


def main(seconds, seed):
    import tempfile
    from learnd_process import Daemon
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "state", Path(folder) / "log",
                        args=key_file(folder)).start()
        try:
            status, output = run(daemon, seconds, seed, folder)
            print(output if status else summary(output))
            page = daemon.call("GET", "/metrics", expect=200).text
            for line in re.findall(r"learnd_(?:answers|requests)_total.*", page):
                print(line)
            daemon.stop()
        finally:
            daemon.kill9()
    return status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
