"""One learnd process and its state folder, as every end-to-end test sees them.

    d = Daemon(tmp_path / "state", tmp_path / "log")
    d.start()
    d.post("/v1/classify", {"inputs": "hello"})
    d.restart()     SIGTERM, then start again on the same state
    d.kill9()       no time to say anything
    d.stop()        SIGTERM; exit status 0 and no sanitizer report, or the test fails

The process is told everything by flags: LEARND_* of the caller's environment do not reach it. Its
log is a file; `listening` and `ready` are read from there, so there is nothing to wait for but the
lines themselves.
"""
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import requests

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "golden" / "tiny-encoder"
START_S = 120  # of a sanitizer build on a busy machine; a start that fails is seen at once
REPORTS = re.compile(r"(ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:|"
                     r"SUMMARY: \w+Sanitizer|Assertion .* failed)")


def binary():
    path = Path(os.environ.get("LEARND_BIN", ROOT / "build" / "learnd"))
    assert path.exists(), f"{path} is not there: make all"
    return path


def sanitized():
    """Is it a sanitizer build? Then less is done of what only takes long."""
    return any(f"build-{s}" in str(binary()) for s in ("asan", "tsan"))


def minilm():
    """The folder of the default encoder, or None."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = Path(os.environ.get("LEARND_ENCODER", cache / "learnd" / "all-MiniLM-L6-v2"))
    return path if (path / "model.safetensors").exists() else None


def environment(extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEARND_")}
    env.setdefault("OMP_NUM_THREADS", "1")
    env.setdefault("OMP_WAIT_POLICY", "passive")  # else learnd begins again to set it
    env.setdefault("LEARND_TRAIN", "manual")  # runs start when a test asks for one
    env.update(extra or {})
    return env


def run(*args, env=None, timeout=60, **more):
    """learnd with these flags until it ends by itself: for --help, --check-config and starts that
    fail."""
    return subprocess.run([str(binary()), *map(str, args)], env=environment(env), timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          **more)


class Daemon:
    contract = None  # a contract.Contract that every answer is held against

    def __init__(self, state, log, encoder=TINY, args=(), env=None, preexec=None, pass_fds=()):
        self.state, self.log, self.encoder = Path(state), Path(log), Path(encoder)
        self.args, self.env, self.preexec, self.pass_fds = list(args), env, preexec, pass_fds
        self.process = None
        self.session = requests.Session()
        self.session.trust_env = False
        self.url = self.host = self.port = None

    # ---- life

    def start(self):
        offset = self.start_unready()
        self.wait_line(r"event=ready ", offset)
        address = self.wait_line(r"event=listening address=(http://\S+)", offset)
        self.url = address.group(1)
        self.host, self.port = re.match(r"http://(.+):(\d+)$", self.url).groups()
        self.port = int(self.port)
        return self

    def start_unready(self):
        """Only spawns it. Returns where in the log its lines begin."""
        assert self.process is None, "it runs already"
        offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [str(binary()), "--state", str(self.state), "--encoder", str(self.encoder),
                 "--listen", "127.0.0.1:0", *map(str, self.args)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(self.env),
                preexec_fn=self.preexec, pass_fds=self.pass_fds)
        return offset

    def wait_line(self, pattern, offset=0, seconds=START_S):
        """The first match of pattern in the log behind offset; fails when the process ended without
        it."""
        until = time.monotonic() + seconds
        while True:
            ended = self.process is None or self.process.poll() is not None
            with open(self.log, "rb") as f:
                f.seek(offset)
                text = f.read().decode("utf-8", "replace")
            found = re.search(pattern, text)
            if found:
                return found
            assert not ended, f"learnd ended without {pattern!r}:\n{text[-4000:]}"
            assert time.monotonic() < until, f"no {pattern!r} in {seconds} s:\n{text[-4000:]}"
            time.sleep(0.002)

    def stop(self, seconds=60):
        """SIGTERM. A daemon that drains cleanly ends with 0 and has nothing to report."""
        if self.process is None:
            return
        ended = self.process.poll()
        assert ended is None, f"learnd ended by itself with {ended}:\n{self.text()[-4000:]}"
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"no stop within {seconds} s:\n{self.text()[-4000:]}") from None
        self.forget()
        assert status == 0, f"exit status {status}:\n{self.text()[-4000:]}"
        self.check_reports()

    def kill9(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.forget()

    def restart(self):
        self.stop()
        return self.start()

    def forget(self):
        self.process = None
        self.session.close()

    def check_reports(self):
        found = REPORTS.search(self.text())
        assert not found, f"a sanitizer reports:\n{self.text()[found.start():][:8000]}"

    # ---- looking

    def text(self):
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        """Resident bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    # ---- talking: each returns the answer and asserts the status it was told to expect (None: any)

    def call(self, method, path, body=None, expect=None, **more):
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        headers = dict(more.pop("headers", {}))
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = body.encode() if isinstance(body, str) else body
        answer = self.session.request(method, self.url + path, data=body, headers=headers,
                                      timeout=more.pop("timeout", 120), **more)
        if self.contract is not None:
            self.contract.check(method, path, answer)
        if expect is not None:
            assert answer.status_code == expect, \
                f"{method} {path}: {answer.status_code}, not {expect}: {answer.text[:600]}"
        return answer

    def get(self, path, expect=200, **more):
        return self.call("GET", path, None, expect, **more).json()

    def post(self, path, body, expect=200, **more):
        return self.call("POST", path, body, expect, **more).json()

    def patch(self, path, body, expect=200, **more):
        return self.call("PATCH", path, body, expect, **more).json()

    def delete(self, path, expect=204, **more):
        return self.call("DELETE", path, None, expect, **more)

    # ---- what most tests do

    def settle(self, model="default"):
        """Until the answers are a function of the examples alone: pool fitted, labels audited."""
        until = time.monotonic() + START_S
        while not self.get(f"/v1/models/{quote(model, safe='')}")["settled"]:
            assert time.monotonic() < until, f"{model} does not settle"
            time.sleep(0.01)
        return self

    def ask(self, inputs, **fields):
        return self.post("/v1/classify", {"inputs": inputs, **fields})

    def teach(self, items, wait="applied", model=None, **fields):
        """items: dicts, or (text, label) pairs. 202 with all of them accepted."""
        items = [i if isinstance(i, dict) else {"text": i[0], "label": i[1]} for i in items]
        body = {"items": items, "wait": wait, **fields}
        if model:
            body["model"] = model
        answer = self.post("/v1/feedback", body, expect=202)
        assert answer["rejected"] == [], answer["rejected"]
        return answer

    def ndjson(self, items, query="", expect=202):
        lines = "".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items)
        return self.post("/v1/feedback" + query, lines.encode(), expect,
                         headers={"Content-Type": "application/x-ndjson"})

    def problem(self, method, path, body=None, **more):
        """(status, code, field) of a refusal, after looking at its RFC 9457 shape."""
        answer = self.call(method, path, body, **more)
        assert answer.status_code >= 400, f"{answer.status_code}: {answer.text[:600]}"
        return problem_of(answer)


def problem_of(answer):
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "about:blank"
    assert body["status"] == answer.status_code
    assert body["title"] and body["detail"] and re.fullmatch(r"[a-z0-9_]+", body["code"])
    return body["status"], body["code"], body.get("field")
