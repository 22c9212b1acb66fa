"""What /metrics says, and what Prometheus and Grafana make of it: every refusal is counted by its
code, every stage is timed, learning and runs are seen, alerts fire when they should.
"""
import json
import re
import signal
import statistics
import subprocess
import sys
import time
import resource

import pytest

import tools
from event_stream import EventStream
from learnd_process import ROOT
from metrics_page import moved, read, refused
from test_http import GET, Wire, request
from test_runs import FORCED, ended, texts, until

DEPLOY = ROOT / "deploy"
ID = "0123456789abcdef0123456789abcdef"


# ---- refusals

def head(line, *headers):
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", b""])


# Bytes on the wire -> the code they are refused with.
WIRE = {
    "malformed_http": b"GARBAGE\r\n\r\n",
    "missing_host": b"GET / HTTP/1.1\r\n\r\n",
    "duplicate_header": head(b"GET / HTTP/1.1", b"Origin: a", b"Origin: b"),
    "version_not_supported": head(b"GET / HTTP/2.0"),
    "uri_too_long": head(b"GET /" + b"a" * 5000 + b" HTTP/1.1"),
    "headers_too_large": head(b"GET / HTTP/1.1", b"X: " + b"a" * 9000),
    "upgrade_not_supported": head(b"CONNECT localhost:80 HTTP/1.1"),
    "unknown_host": b"GET /v1/info HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "foreign_origin": head(b"GET /v1/info HTTP/1.1", b"Origin: https://evil.example"),
    "expectation_failed": head(b"POST /v1/classify HTTP/1.1", b"Expect: the-inquisition",
                               b"Content-Length: 3"),
    "body_too_large": head(b"POST /v1/classify HTTP/1.1", b"Content-Type: application/json",
                           b"Content-Length: 99999999"),
    "unsupported_media_type": head(b"POST /v1/classify HTTP/1.1", b"Content-Type: text/plain",
                                   b"Content-Length: 3"),
}
# Requests -> the code.
CALLS = {
    "not_found": ("GET", "/nothing", None),
    "method_not_allowed": ("PUT", "/v1/classify", "{}"),
    "malformed_json": ("POST", "/v1/classify", "{"),
    "invalid_utf8": ("POST", "/v1/classify", b'{"inputs":"\xff"}'),
    "duplicate_field": ("POST", "/v1/classify", '{"inputs":"a","inputs":"b"}'),
    "too_deep": ("POST", "/v1/classify", '{"inputs":' + "[" * 10000),
    "missing_field": ("POST", "/v1/classify", {}),
    "unknown_field": ("POST", "/v1/classify", {"inputs": "a", "input": "b"}),
    "wrong_type": ("POST", "/v1/classify", {"inputs": 1}),
    "empty_text": ("POST", "/v1/embed", {"inputs": ""}),
    "out_of_range": ("POST", "/v1/classify", {"inputs": "a", "top_k": 0}),
    "unknown_model": ("GET", "/v1/models/nobody", None),
    "unknown_version": ("POST", "/v1/classify", {"inputs": "a", "version": "9.9"}),
    "text_too_long": ("POST", "/v1/classify", {"inputs": "long " * 600, "truncate": "never"}),
    "text_expected": ("POST", "/v1/classify", {"inputs": [{"vector": [1, 2]}]}),
    "unknown_label": ("POST", "/v1/classify", {"inputs": "a", "labels": ["none"]}),
    "unknown_request": ("GET", "/v1/requests/01ARZ3NDEKTSV4RRFFQ69G5FAV", None),
    "unknown_example": ("GET", f"/v1/examples/{ID}", None),
    "invalid_id": ("GET", "/v1/runs/x", None),
    "invalid_cursor": ("GET", "/v1/models?cursor=x", None),
    "invalid_value": ("GET", "/v1/events?types=x", None),
    "invalid_name": ("POST", "/v1/models/default/labels", {"label": ""}),
    "no_vote": ("POST", "/v1/feedback", {"text": "kept", "annotator": "b", "action": "withdraw"}),
    "idempotency_conflict": ("POST", "/v1/feedback",
                             {"text": "other", "label": "x", "idempotency_key": "k"}),
}


@pytest.fixture(scope="module")
def kept(shared):
    shared.teach([{"text": "kept", "label": "x", "annotator": "a", "idempotency_key": "k"}])
    return shared


@pytest.mark.sanitizer
@pytest.mark.parametrize("code", WIRE)
def test_refusals_of_the_connection(kept, code):
    before = read(kept)
    with Wire(kept) as wire:
        assert wire.send(WIRE[code]).problem()[1] == code
        assert wire.ended()
    assert refused(read(kept), code) == refused(before, code) + 1


@pytest.mark.parametrize("code", CALLS)
def test_refusals_of_requests(kept, code):
    if code == "no_vote":
        example = kept.get("/v1/models/default/examples?q=kept")["examples"][0]["example"]
        CALLS[code][2].pop("text", None)
        CALLS[code][2]["example"] = example
    before = read(kept)
    assert kept.problem(*CALLS[code])[1] == code
    after = read(kept)
    assert refused(after, code) == refused(before, code) + 1
    assert moved(before, after, "learnd_requests_total") == 2


@pytest.mark.sanitizer
def test_items_of_feedback_are_counted_by_code(kept, model):
    kept.post("/v1/feedback", {"model": model, "items": [{"text": "a", "label": "x"}]}, 202)
    kept.patch(f"/v1/models/{model}", {"settings": {"annotator_rate_max": 2}})
    before = read(kept)
    answer = kept.post("/v1/feedback", {"items": [
        {"model": model, "text": "a", "label": "x", "annotator": "z"},
        {"model": model, "text": "b", "label": "x", "annotator": "z"},
        {"model": model, "text": "c", "label": "x", "annotator": "z"},
        {"model": "nobody", "text": "a", "label": "x"},
        {"model": model, "text": "a", "label": "new", "create_labels": False},
        {"model": model, "example": ID, "action": "withdraw"}]}, expect=202)
    kept.ndjson([{"model": model, "text": "", "label": "x"}])
    after = read(kept)
    wanted = {"rate_limited": 1, "unknown_model": 1, "unknown_label": 1, "unknown_example": 1,
              "empty_text": 1}
    assert {r["code"] for r in answer["rejected"]} | {"empty_text"} == set(wanted)
    for code, n in wanted.items():
        assert moved(before, after, f'learnd_feedback_refusals_total{{code="{code}"}}') == n, code
        assert moved(before, after, f'learnd_refusals_total{{code="{code}"}}') == 0, code
    assert moved(before, after, "learnd_feedback_rejected_total") == sum(wanted.values())


def test_a_full_disk_is_counted(make_daemon):
    daemon = make_daemon(preexec=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN)).start()
    daemon.teach([("a", "x")])
    unlimited = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1024, unlimited[1]))
    codes = {daemon.problem("POST", "/v1/feedback", {"text": f"lost {i}", "label": "y"})[1]
             for i in range(3)}
    assert daemon.call("GET", "/health/ready").status_code == 503
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, unlimited)
    page = read(daemon)
    assert sum(refused(page, code) for code in codes) == 3 and refused(page, "unready") == 1
    balanced(page)


@pytest.mark.sanitizer
def test_streams_over_the_limit_are_counted(kept):
    streams = [EventStream(kept) for _ in range(64)]
    try:
        before = read(kept)
        assert kept.problem("GET", "/v1/events")[1] == "too_many_streams"
        after = read(kept)
        assert after["learnd_event_streams"] == 64
        assert moved(before, after, "learnd_event_streams_refused_total") == 1
        assert moved(before, after, 'learnd_refusals_total{code="too_many_streams"}') == 1
    finally:
        for stream in streams:
            stream.close()


@pytest.mark.sanitizer
def test_refusals_of_callers_are_counted(daemon):
    """No key, a wrong one, a role that may not, a rate that is spent."""
    keys = {}
    for name, role, more in (("root", "admin", {}), ("bot", "predict", {}),
                             ("slow", "predict", {"rate_per_s": 0.01})):
        keys[name] = daemon.post("/v1/keys", {"name": name, "role": role, **more}, 201)["key"]
        daemon.session.headers["Authorization"] = f"Bearer {keys['root']}"
    before = read(daemon)
    calls = [(None, "unauthorized"), ("wrong", "unauthorized"), (keys["bot"], "forbidden"),
             (keys["slow"], "rate_limited"), (keys["slow"], "rate_limited")]
    del daemon.session.headers["Authorization"]
    daemon.call("GET", "/v1/me", headers={"Authorization": f"Bearer {keys['slow']}"}, expect=200)
    for key, code in calls:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert daemon.problem("GET", "/v1/keys", headers=headers)[1] == code
    daemon.session.headers["Authorization"] = f"Bearer {keys['root']}"
    after = read(daemon)
    for code in ("unauthorized", "forbidden", "rate_limited"):
        n = sum(c == code for _, c in calls)
        assert moved(before, after, f'learnd_refusals_total{{code="{code}"}}') == n
    balanced(after)


def balanced(page):
    """Every answer from 400 on has its code."""
    answers = sum(n for labels, n in page.rows("learnd_answers_total") if labels["status"] >= "400")
    assert answers == sum(n for _, n in page.rows("learnd_refusals_total"))
    assert sum(n for _, n in page.rows("learnd_answers_total")) == page["learnd_requests_total"]


def test_no_refusal_is_without_a_code(kept):
    page = read(kept)
    assert sum(n for _, n in page.rows("learnd_refusals_total")) >= len(WIRE)
    balanced(page)


# ---- stages and classes

@pytest.mark.sanitizer
def test_every_stage_is_timed(kept, model):
    kept.teach([("one", "x"), ("two", "y")], model=model)
    kept.settle(model)
    before = read(kept)
    kept.ask(["one", "two"], model=model)
    kept.post("/v1/embed", {"inputs": "one"})
    kept.teach([("three", "x")], model=model)
    kept.get("/v1/models")
    kept.post("/v1/models", {"name": f"{model}-more"}, expect=201)
    after = read(kept)

    def grew(name):
        return moved(before, after, name)
    assert grew("learnd_parse_seconds_count") == 3
    assert grew("learnd_tokenize_seconds_count") == grew("learnd_queue_seconds_count") == 2
    assert grew("learnd_encode_seconds_count") == 2 and grew("learnd_head_seconds_count") == 1
    assert grew("learnd_commit_seconds_count") == 1
    assert grew("learnd_journal_fsync_seconds_count") >= 2
    for name in ("learn", "apply", "publish"):
        assert grew(f"learnd_{name}_seconds_count") >= 1, name
    assert after["learnd_learner_lag_seconds"] == 0, "wait=applied was answered"
    assert grew("learnd_receive_seconds_count") == 6
    assert 5 <= grew("learnd_write_seconds_count") <= 6
    for kind, n in (("ask", 2), ("teach", 1), ("read", 1), ("manage", 1), ("about", 1),
                    ("none", 0)):
        assert grew(f'learnd_request_seconds_count{{class="{kind}"}}') == n, kind
    whole = sum(grew(f"learnd_{s}_seconds_sum") for s in ("queue", "encode", "head"))
    assert 0 < whole <= grew('learnd_request_seconds_sum{class="ask"}') * 1.05


# ---- learning, models, the process

@pytest.mark.sanitizer
def test_models_have_rows_of_what_is_live(daemon):
    daemon.post("/v1/models", {"name": "m.1_a-b"}, expect=201)
    daemon.teach([("a", "x"), ("b", "y"), ("c", "z")], model="m.1_a-b")
    daemon.settle("m.1_a-b")
    page, model = read(daemon), daemon.get("/v1/models/m.1_a-b")
    encoder, seq = map(int, model["version"].split("."))
    row = '{model="m.1_a-b"}'
    assert page["learnd_model_encoder" + row] == encoder
    assert page["learnd_model_version_seq" + row] == seq
    assert page["learnd_model_labels" + row] == 3 and page["learnd_model_settled" + row] == 1
    assert 0 <= time.time() - page["learnd_model_published_seconds" + row] < 600
    assert {m["model"] for m, _ in page.rows("learnd_model_labels")} == {"default", "m.1_a-b"}
    daemon.delete("/v1/models/m.1_a-b")
    assert not any("m.1_a-b" in key for key in read(daemon))


@pytest.mark.sanitizer
def test_the_process(daemon):
    page = read(daemon)
    (_, version), = [(k, v) for k, v in page.rows("learnd_build_info")]
    assert version == 1 and page.types["process_cpu_seconds_total"] == "counter"
    assert page["process_resident_memory_bytes"] == pytest.approx(daemon.rss(), rel=0.3)
    assert 0 < page["process_open_fds"] < page["process_max_fds"]
    assert page["process_threads"] >= 6
    assert abs(page["process_start_time_seconds"] - time.time()) < 3600
    db = daemon.state / "learnd.db"
    assert page["learnd_journal_bytes"] == db.stat().st_size
    assert page["learnd_state_free_bytes"] <= page["learnd_state_size_bytes"]
    before = page["learnd_journal_wal_bytes"]
    daemon.teach([(f"text {i}", "x") for i in range(50)])
    assert read(daemon)["learnd_journal_wal_bytes"] > before


def test_runs_are_seen_while_they_run(daemon):
    daemon.teach(list(texts(1000)))
    before = read(daemon)
    assert before["learnd_run_under_way"] == 0 and not before.rows("learnd_run_loss")
    run = daemon.post("/v1/models/default/runs", {"epochs": 100, "batch": 4}, 202)["run"]

    def learning():
        page = read(daemon)
        return page if page.get('learnd_run_loss{model="default"}', 0) > 0 else None
    page = until(learning)
    row = '{model="default"}'
    assert page["learnd_run_under_way"] == 1 and page["learnd_run_number" + row] == run
    assert 0 < page["learnd_run_step" + row] <= page["learnd_run_steps_planned" + row]
    assert page["learnd_run_learning_rate" + row] > 0 and page["learnd_run_grad_norm" + row] > 0
    assert page["learnd_run_examples_per_second" + row] > 0
    assert page["learnd_run_eta_seconds" + row] >= 0
    daemon.call("DELETE", f"/v1/runs/{run}")
    ended(daemon, run)
    run = daemon.post("/v1/models/default/runs", FORCED, 202)["run"]
    row = ended(daemon, run)
    page = until(lambda: (p := read(daemon))["learnd_run_under_way"] == 0 and p)
    assert moved(before, page, "learnd_runs_cancelled_total") == 1
    assert moved(before, page, "learnd_runs_accepted_total") == 1 and row["state"] == "accepted"
    assert moved(before, page, "learnd_runs_forced_total") == row["verdict"]["forced"]
    for reason in row["verdict"]["reasons"]:
        assert page[f'learnd_gate_reasons_total{{reason="{reason}"}}'] == 1
    assert not page.rows("learnd_run_loss")
    assert page['learnd_model_encoder{model="default"}'] == 1


# ---- under full load

LOAD = """
import socket, sys
host, port, body = sys.argv[1], int(sys.argv[2]), sys.stdin.buffer.read()
many = [socket.create_connection((host, port)) for _ in range(16)]
for s in many:
    s.sendall(body * 2)
while True:
    for s in many:
        if not s.recv(1 << 20):
            sys.exit(0)
        s.sendall(body)
"""


def timed(wire, bytes_):
    started = time.perf_counter()
    assert wire.send(bytes_).answer()[0] == 200
    return time.perf_counter() - started


def test_probes_and_metrics_do_not_wait_for_traffic(daemon):
    """Against a question of the same moment, which has the queue before it. Figures are printed;
    what is asserted is that a probe is not behind the questions, and that a page costs the loop no
    more than a few of them."""
    daemon.teach(list(texts(60)))
    words = {"inputs": ["a text of the length that bots send, about so long"] * 64}
    load = subprocess.Popen([sys.executable, "-c", LOAD, daemon.host, str(daemon.port)],
                            stdin=subprocess.PIPE)
    try:
        load.stdin.write(request(body=json.dumps(words).encode()))
        load.stdin.close()
        until(lambda: read(daemon)["learnd_queue_texts"] > 200)
        took = {"/health/live": [], "/metrics": [], "/v1/classify": []}
        pages = []
        before = read(daemon)
        with Wire(daemon) as wire:
            for _ in range(40):
                took["/v1/classify"].append(timed(wire, request()))
                took["/health/live"].append(timed(wire, GET))
                took["/metrics"].append(timed(wire, GET.replace(b"/health/live", b"/metrics")))
                pages.append(read(daemon)["learnd_metrics_page_seconds"])
        after = read(daemon)
        assert load.poll() is None, "the load has ended"
    finally:
        load.kill()
        load.wait()
    median = {path: statistics.median(times) for path, times in took.items()}
    asked = moved(before, after, 'learnd_request_seconds_sum{class="ask"}') / \
        moved(before, after, 'learnd_request_seconds_count{class="ask"}')
    page = statistics.median(pages)
    print("\nunder full load, ms:", {p: round(t * 1000, 2) for p, t in median.items()},
          f"a question of the load {asked * 1000:.1f}, making a page {page * 1000:.2f}")
    assert median["/health/live"] < asked / 2
    assert median["/metrics"] < asked
    assert page < asked / 10


# ---- Prometheus, Grafana

def promtool(*args, **more):
    return subprocess.run([tools.promtool(), *args], capture_output=True, text=True, timeout=300,
                          check=False, **more)


def test_promtool_likes_the_page(kept):
    done = promtool("check", "metrics", input=read(kept).text)
    assert done.returncode == 0 and done.stderr == "", done.stderr + done.stdout


def test_alert_rules():
    done = promtool("check", "rules", str(DEPLOY / "alerts.yml"))
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
    done = promtool("test", "rules", str(ROOT / "tests" / "e2e" / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do():
    rules, tests = (DEPLOY / "alerts.yml").read_text(), \
        (ROOT / "tests" / "e2e" / "alerts_test.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) == len(set(alerts)) > 20
    for alert in alerts:
        assert f"  # {alert}\n" in tests and f"  # {alert}: not yet\n" in tests, alert
    for part in rules.split("- alert: ")[1:]:
        assert re.search(r"severity: (page|ticket|info)\b", part), part
        assert re.search(r'summary: ".+"', part) and re.search(r'action: ".+"', part), part


def names_in(text):
    return set(re.findall(r"\b(?:learnd|process)_[a-z0-9_]+\b", text))


def test_dashboard_and_alerts_name_what_is_there(kept):
    page = read(kept)
    there = {key.split("{")[0] for key in page} | set(page.types)
    there |= names_in((ROOT / "daemon" / "front" / "device_page.c").read_text())  # of some devices
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    expressions = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
    expressions += [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    expressions += [a["expr"] for a in dashboard["annotations"]["list"]]
    assert len(expressions) > 80
    for expression in expressions:
        assert names_in(expression) and names_in(expression) <= there, expression
    rules = re.sub(r"(?m)^ *(- alert|summary|action).*$", "", (DEPLOY / "alerts.yml").read_text())
    rules = re.sub(r"(?m)^ *#.*$", "", rules)
    assert len(names_in(rules)) > 20 and names_in(rules) <= there, names_in(rules) - there
    shown = {n for n in page.types if any(s.startswith(n) for s in names_in(" ".join(expressions)))}
    histograms = {n for n, kind in page.types.items() if kind == "histogram"}
    assert histograms <= shown and len(shown) > 60, set(page.types) - shown


def test_the_dashboard_is_whole():
    """What Grafana asks of a dashboard, and every expression parses as PromQL."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and dashboard["uid"] == "learnd"
    assert {v["name"] for v in dashboard["templating"]["list"]} == \
        {"datasource", "job", "instance", "model"}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and panel["title"]
        for other in dashboard["panels"]:
            o = other["gridPos"]
            apart = place["x"] + place["w"] <= o["x"] or o["x"] + o["w"] <= place["x"] or \
                place["y"] + place["h"] <= o["y"] or o["y"] + o["h"] <= place["y"]
            assert panel is other or apart, f"{panel['title']} and {other['title']} overlap"
    expressions = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
    rules = {"groups": [{"name": "dashboard", "rules": [
        {"record": f"r{i}", "expr": e.replace("$__rate_interval", "5m")}
        for i, e in enumerate(expressions)]}]}
    done = promtool("check", "rules", "/dev/stdin", input=json.dumps(rules))
    assert done.returncode == 0, done.stdout + done.stderr
