"""Keys: who may come in, as what, how often, and what is written down about it."""
import http.client
import os
import signal
import socket
import sqlite3
import stat

import pytest
import requests

from event_stream import EventStream
from learnd_process import problem_of, run, TINY
from test_http import Wire

FAR = "2099-01-01T00:00:00Z"


def create(daemon, name, role, expect=201, **more):
    return daemon.post("/v1/keys", {"name": name, "role": role, **more}, expect=expect)


def use(daemon, key):
    """From now on the daemon's calls carry this key; None: none."""
    daemon.session.headers.pop("Authorization", None)
    if key is not None:
        daemon.session.headers["Authorization"] = f"Bearer {key}"


def keyed(daemon):
    """Its first key."""
    use(daemon, create(daemon, "root", "admin")["key"])
    return daemon


def acts(daemon, query=""):
    return [(a["who"], a["action"], a["object"]) for a in daemon.get("/v1/audit" + query)["audit"]]


@pytest.mark.sanitizer
def test_life_of_a_key(daemon):
    assert daemon.get("/v1/me") == {"role": "admin", "key": None,
                                    "version": daemon.get("/v1/info")["version"]}
    keyed(daemon)
    made = create(daemon, "bot", "predict", rate_per_s=100, expires_at=FAR)
    assert made["state"] == "active" and made["rate_per_s"] == 100
    assert made["expires_at"].startswith("2099") and made["last_used"] is None
    listed = daemon.get("/v1/keys")["keys"]
    assert [k["name"] for k in listed] == ["root", "bot"]
    assert "key" not in listed[0] and listed[0]["requests"] > 0 and listed[0]["last_used"]
    admin = daemon.session.headers["Authorization"]
    use(daemon, made["key"])
    me = daemon.get("/v1/me")
    assert me["role"] == "predict" and me["key"]["name"] == "bot" and me["key"]["requests"] == 1
    assert daemon.problem("GET", "/v1/keys") == (403, "forbidden", None)
    daemon.session.headers["Authorization"] = admin
    daemon.delete(f"/v1/keys/{made['id']}")
    daemon.delete(f"/v1/keys/{made['id']}")
    use(daemon, made["key"])
    assert daemon.problem("GET", "/v1/me") == (401, "unauthorized", None)
    daemon.session.headers["Authorization"] = admin
    assert [(k["name"], k["state"]) for k in daemon.get("/v1/keys")["keys"]] == \
        [("root", "active"), ("bot", "revoked")]
    create(daemon, "bot", "predict")  # the name is free again
    assert acts(daemon) == [("root", "key_create", "bot"), ("root", "key_revoke", str(made["id"])),
                            ("root", "key_create", "bot"), ("local", "key_create", "root")]
    page = daemon.get("/v1/keys?limit=2")
    assert [k["name"] for k in daemon.get(f"/v1/keys?cursor={page['next_cursor']}")["keys"]] == \
        ["bot"]


def test_the_first_key_is_an_admins(daemon):
    for body in ({"role": "predict"}, {"role": "annotate"}, {"role": "admin", "expires_at": FAR}):
        status, code, field = daemon.problem("POST", "/v1/keys", {"name": "a", **body})
        assert (status, code) == (422, "first_key")
        assert field == ("expires_at" if "expires_at" in body else "role")
    assert daemon.get("/v1/keys")["keys"] == [] and acts(daemon) == []
    daemon.ask("still open")


def test_the_last_admin_key_stays(daemon):
    keyed(daemon)
    create(daemon, "guest", "admin", expires_at=FAR)
    assert daemon.problem("DELETE", "/v1/keys/1") == (409, "last_admin_key", None)
    second = create(daemon, "second", "admin")
    daemon.delete("/v1/keys/1")
    use(daemon, second["key"])
    assert daemon.problem("DELETE", f"/v1/keys/{second['id']}") == (409, "last_admin_key", None)


@pytest.mark.parametrize("body, expected", [
    ({"role": "admin"}, (422, "missing_field", "name")),
    ({"name": "a"}, (422, "missing_field", "role")),
    ({"name": "a", "role": "root"}, (422, "invalid_value", "role")),
    ({"name": "a", "role": "none"}, (422, "invalid_value", "role")),
    ({"name": "", "role": "admin"}, (422, "invalid_name", "name")),
    ({"name": "a\nb", "role": "admin"}, (422, "invalid_name", "name")),
    ({"name": "a" * 129, "role": "admin"}, (422, "invalid_name", "name")),
    ({"name": 1, "role": "admin"}, (422, "wrong_type", "name")),
    ({"name": "a", "role": "admin", "rate_per_s": 0}, (422, "out_of_range", "rate_per_s")),
    ({"name": "a", "role": "admin", "rate_per_s": "9"}, (422, "wrong_type", "rate_per_s")),
    ({"name": "a", "role": "admin", "expires_at": "soon"}, (422, "invalid_value", "expires_at")),
    ({"name": "a", "role": "admin", "expires_at": 7}, (422, "wrong_type", "expires_at")),
    ({"name": "a", "role": "admin", "expires_at": "2001-01-01T00:00:00Z"},
     (422, "out_of_range", "expires_at")),
    ({"name": "a", "role": "admin", "color": 1}, (422, "unknown_field", "color")),
])
def test_bad_keys_are_refused(shared, body, expected):
    assert shared.problem("POST", "/v1/keys", body) == expected


def test_other_refusals(daemon):
    keyed(daemon)
    assert daemon.problem("POST", "/v1/keys", {"name": "root", "role": "admin"}) == \
        (409, "key_exists", "name")
    assert daemon.problem("DELETE", "/v1/keys/99") == (404, "unknown_key", None)
    assert daemon.problem("DELETE", "/v1/keys/x") == (422, "invalid_id", "id")
    for query, field in (("limit=0", "limit"), ("cursor=x", "cursor"), ("before=x", "before"),
                         ("key=x", "key"), ("action=%00", "action")):
        assert daemon.problem("GET", "/v1/audit?" + query)[2] == field


@pytest.mark.sanitizer
def test_what_does_not_open(daemon):
    keyed(daemon)
    good = daemon.session.headers["Authorization"].split()[1]
    wrong = "lk_" + "0" * 64
    for header in (None, "", "Bearer", "Bearer ", "Basic cm9vdDpyb290", f"Bearer {wrong}",
                   f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good.upper()}",
                   f"Bearer {good} {good}", good, "Bearer " + "x" * 5000):
        headers = {} if header is None else {"Authorization": header}
        answer = requests.get(daemon.url + "/v1/me", headers=headers, timeout=60)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), header
        assert problem_of(answer)[:2] == (401, "unauthorized"), header
        assert good not in answer.text and wrong not in answer.text
    for header in (f"bearer {good}", f"BEARER  {good}"):
        assert requests.get(daemon.url + "/v1/me", headers={"Authorization": header},
                            timeout=60).status_code == 200
    assert 'learnd_refusals_total{code="unauthorized"}' in daemon.call("GET", "/metrics").text
    assert good not in daemon.text()


def test_a_refused_request_leaves_the_connection_usable(daemon):
    key = create(daemon, "root", "admin")["key"]
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(daemon.url + "/v1/classify", json={"inputs": "x" * 30000},
                                  timeout=60)
            assert answer.status_code == 401 and answer.headers.get("Connection") != "close"
        session.headers["Authorization"] = f"Bearer {key}"
        assert session.post(daemon.url + "/v1/classify", json={"inputs": "x"},
                            timeout=60).status_code == 200
    head = (b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    with Wire(daemon) as w:  # a stream is not waited for
        assert w.send(head % b"application/x-ndjson").problem()[:2] == (401, "unauthorized")
        assert w.ended()
    with Wire(daemon) as w:  # nor read for ever
        try:
            w.send(head % b"application/json", *[b"8000\r\n" + b" " * 32768 + b"\r\n"] * 5)
        except OSError:
            pass
        assert w.problem()[:2] == (401, "unauthorized")
    with Wire(daemon) as w:
        w.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
               b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n")
        assert w.problem()[:2] == (401, "unauthorized") and w.ended()
    with Wire(daemon) as w:  # the next request is judged for itself
        w.send(b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert w.problem()[0] == 401
        assert w.send(b"GARBAGE\r\n\r\n").problem()[:2] == (400, "malformed_http")
    large = requests.post(daemon.url + "/v1/feedback", data=b"x" * 200_000, timeout=60,
                          headers={"Content-Type": "application/json"})
    assert large.status_code == 401 and large.headers["Connection"] == "close"


def test_the_rate_of_a_key(daemon):
    keyed(daemon)
    slow = create(daemon, "slow", "predict", rate_per_s=0.01)
    use(daemon, slow["key"])
    daemon.ask("one")
    for _ in range(2):
        answer = daemon.call("GET", "/v1/me")
        assert problem_of(answer)[:2] == (429, "rate_limited")
        assert 90 <= int(answer.headers["Retry-After"]) <= 100
    metrics = daemon.call("GET", "/metrics")
    assert metrics.status_code == 429  # it needs the key too
    assert daemon.call("GET", "/health/live").status_code == 200


def test_metrics_and_probes(make_daemon):
    daemon = keyed(make_daemon("closed").start())
    use(daemon, None)
    assert daemon.problem("GET", "/metrics") == (401, "unauthorized", None)
    for path in ("/health/live", "/health/ready", "/openapi.json"):
        assert daemon.call("GET", path).status_code == 200
    daemon = keyed(make_daemon("open", args=["--metrics-open", "yes"]).start())
    use(daemon, None)
    assert daemon.call("GET", "/metrics").status_code == 200


@pytest.mark.sanitizer
def test_a_stream_ends_with_its_key(daemon):
    keyed(daemon)
    admin = daemon.session.headers["Authorization"]
    watcher = create(daemon, "watcher", "annotate")
    use(daemon, watcher["key"])
    with EventStream(daemon) as stream:
        daemon.session.headers["Authorization"] = admin
        daemon.delete(f"/v1/keys/{watcher['id']}")
        with pytest.raises(StopIteration):
            while True:
                next(stream)


@pytest.mark.sanitizer
def test_what_began_without_a_key_ends_with_the_first(daemon):
    with EventStream(daemon) as stream:
        keyed(daemon)
        with pytest.raises(StopIteration):
            while True:
                next(stream)


@pytest.mark.sanitizer
def test_an_upload_ends_with_its_key(daemon):
    """What came before is kept, as after any client that leaves."""
    keyed(daemon)
    admin = daemon.session.headers["Authorization"]
    team = create(daemon, "team", "annotate")
    line = b'{"text": "sent before", "label": "x"}\n'
    with Wire(daemon) as w:
        w.send(b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " +
               team["key"].encode() + b"\r\nContent-Type: application/x-ndjson\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(line), line))
        daemon.session.headers["Authorization"] = admin
        daemon.delete(f"/v1/keys/{team['id']}")
        assert w.problem()[:2] == (401, "unauthorized")
        assert w.ended()


def test_what_keys_have_done(daemon):
    keyed(daemon)
    admin = daemon.session.headers["Authorization"]
    team = create(daemon, "team", "annotate")
    use(daemon, team["key"])
    example = daemon.teach([("red apple", "fruit"), ("blue car", "thing")])["accepted"][0]["example"]
    daemon.ndjson([{"text": "green pear", "label": "fruit"}])
    daemon.post("/v1/models/default/labels", {"label": "animal"}, expect=201)
    daemon.delete(f"/v1/examples/{example}")
    daemon.session.headers["Authorization"] = admin
    daemon.patch("/v1/models/default/labels/animal", {"label": "beast"})
    daemon.post("/v1/models/default/labels/beast/merge", {"into": "thing"})
    daemon.delete("/v1/models/default/labels/fruit")
    daemon.post("/v1/models", {"name": "second"}, expect=201)
    daemon.patch("/v1/models/second", {"settings": {"score_min": 0.5}})
    daemon.delete("/v1/models/second")
    daemon.post("/v1/erase", {"text": "blue car"})
    daemon.post("/v1/erase", {"annotator": "nobody", "model": "default"})
    daemon.post("/v1/models/default/rollback", {"encoder": 0})  # it is live: nothing changes
    assert daemon.problem("POST", "/v1/models", {"name": "default"})[1] == "model_exists"
    assert acts(daemon)[:-2] == [
        ("root", "erase_annotator", "default"), ("root", "erase_text", ""),
        ("root", "model_delete", "second"), ("root", "model_settings", "second"),
        ("root", "model_create", "second"), ("root", "label_retire", "default/fruit"),
        ("root", "label_merge", "default/beast/thing"),
        ("root", "label_change", "default/animal"), ("team", "example_delete", example),
        ("team", "label_add", "default/animal")]
    assert acts(daemon, f"?key={team['id']}&action=label_add") == \
        [("team", "label_add", "default/animal")]
    assert acts(daemon, "?key=0") == [("local", "key_create", "root")]
    page = daemon.get("/v1/audit?limit=5")
    rest = daemon.get(f"/v1/audit?limit=5&cursor={page['next_cursor']}")
    assert [a["act"] for a in page["audit"] + rest["audit"]] == list(range(12, 2, -1))
    assert acts(daemon, f"?before={rest['audit'][0]['time']}") == acts(daemon)[6:]
    assert {k["name"]: k["corrections"] for k in daemon.get("/v1/keys")["keys"]} == \
        {"root": 0, "team": 3}
    line = page["audit"][0]
    assert line["address"] == "127.0.0.1" and line["uid"] is None and len(line["request_id"]) == 26
    assert "blue car" not in daemon.call("GET", "/v1/audit").text


def test_runs_and_erasures_name_the_key(daemon):
    keyed(daemon)
    run_row = daemon.post("/v1/models/default/runs", {"strategy": "head"}, expect=202)
    assert run_row["who"] == "root"
    while daemon.call("DELETE", f"/v1/runs/{run_row['run']}").status_code != 204:
        pass
    assert ("root", "run_start", "default") in acts(daemon)
    folder = str(TINY)
    run_row = daemon.post("/v1/models/default/import", {"folder": folder}, expect=202)
    assert acts(daemon)[0] == ("root", "encoder_import", "default")
    while daemon.call("DELETE", f"/v1/runs/{run_row['run']}").status_code != 204:
        pass
    assert daemon.problem("POST", "/v1/models/none/runs", {})[0] == 404
    daemon.post("/v1/erase", {"text": "nothing"})
    with sqlite3.connect(daemon.state / "learnd.db") as db:
        assert db.execute("SELECT who FROM audit").fetchall() == [("root",)]


def test_what_was_answered_outlives_a_kill(daemon):
    keyed(daemon)
    header = daemon.session.headers["Authorization"]
    bot = create(daemon, "bot", "predict")
    gone = create(daemon, "gone", "admin")
    daemon.delete(f"/v1/keys/{gone['id']}")
    daemon.kill9()
    daemon.start()
    use(daemon, gone["key"])
    assert daemon.problem("GET", "/v1/me")[0] == 401
    use(daemon, bot["key"])
    assert daemon.get("/v1/me")["role"] == "predict"
    daemon.session.headers["Authorization"] = header
    assert acts(daemon) == [("root", "key_revoke", str(gone["id"])), ("root", "key_create", "gone"),
                            ("root", "key_create", "bot"), ("local", "key_create", "root")]


def test_use_is_written_down(daemon):
    keyed(daemon)
    header = daemon.session.headers["Authorization"]
    daemon.get("/v1/me")
    daemon.teach([("a", "x"), ("b", "y")])
    before = daemon.get("/v1/keys")["keys"][0]
    daemon.restart()
    daemon.session.headers["Authorization"] = header
    after = daemon.get("/v1/keys")["keys"][0]
    assert after["requests"] == before["requests"] + 1 and after["corrections"] == 2
    assert after["last_used"] >= before["last_used"]


# ---- the file, other addresses, the unix socket


def key_file(path, key="k" * 40, mode=0o600):
    path.write_text(key + "\n")
    path.chmod(mode)
    return path


def test_admin_key_file(make_daemon, tmp_path):
    path = key_file(tmp_path / "key")
    daemon = make_daemon(args=["--admin-key-file", path]).start()
    assert daemon.problem("GET", "/v1/me") == (401, "unauthorized", None)
    use(daemon, "k" * 40)
    me = daemon.get("/v1/me")
    assert me["role"] == "admin" and me["key"]["id"] is None
    assert me["key"]["name"] == "admin-key-file"
    bot = create(daemon, "bot", "predict")  # the first key may be anything now
    root = create(daemon, "root", "admin")
    daemon.delete(f"/v1/keys/{root['id']}")
    daemon.delete(f"/v1/keys/{bot['id']}")
    assert acts(daemon)[0] == ("admin-key-file", "key_revoke", str(bot["id"]))
    use(daemon, None)
    assert daemon.problem("GET", "/v1/me") == (401, "unauthorized", None)


@pytest.mark.sanitizer
def test_the_file_is_read_again(make_daemon, tmp_path):
    """At SIGHUP; a file that is no longer good changes nothing."""
    path = key_file(tmp_path / "key")
    daemon = make_daemon(args=["--admin-key-file", path]).start()
    use(daemon, "k" * 40)
    daemon.get("/v1/me")
    key_file(path, "n" * 40)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_line(r"at=reload event=done ")
    assert daemon.problem("GET", "/v1/me")[0] == 401
    use(daemon, "n" * 40)
    daemon.get("/v1/me")
    offset = len(daemon.text().encode())
    for bad in (lambda: key_file(path, "short"), lambda: path.chmod(0o644), path.unlink):
        bad()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line(r"at=reload event=refused .*admin-key-file", offset)
        daemon.wait_line(r"at=reload event=done ", offset)
        offset = len(daemon.text().encode())
        daemon.get("/v1/me")


@pytest.mark.parametrize("make, why", [
    (lambda p: key_file(p, mode=0o604), "no others can read"),
    (lambda p: key_file(p, mode=0o620), "no others can read"),
    (lambda p: key_file(p, "short"), "32 to 256"),
    (lambda p: key_file(p, ""), "32 to 256"),
    (lambda p: key_file(p, "k" * 257), "32 to 256"),
    (lambda p: key_file(p, "k" * 40 + "\n" + "l" * 40), "no spaces"),
    (lambda p: key_file(p, "k" * 20 + " " + "l" * 20), "no spaces"),
    (lambda p: p, "No such file"),
    (lambda p: p.mkdir() or p, "must be a file"),
])
def test_a_bad_key_file_is_refused(tmp_path, make, why):
    ended = run("--state", tmp_path / "s", "--encoder", TINY, "--listen", "127.0.0.1:0",
                "--admin-key-file", make(tmp_path / "key"))
    assert ended.returncode == 1 and why in ended.stderr and "admin-key-file" in ended.stderr


def test_other_addresses_need_a_key(make_daemon, tmp_path):
    def refused():
        return run("--state", tmp_path / "d", "--encoder", TINY, "--listen", "0.0.0.0:0")
    ended = refused()
    assert ended.returncode == 1 and "without keys" in ended.stderr
    daemon = make_daemon("d").start()
    key = create(daemon, "root", "admin")["key"]
    daemon.stop()
    daemon = make_daemon("d", args=["--listen", "0.0.0.0:0"]).start()
    port = daemon.wait_line(r"address=http://0\.0\.0\.0:(\d+)").group(1)
    url = f"http://127.0.0.1:{port}/v1/me"
    assert requests.get(url, timeout=60).status_code == 401
    assert requests.get(url, timeout=60, headers={"Authorization": f"Bearer {key}",
                                                  "Host": "any.example"}).status_code == 200
    checked = run("--state", tmp_path / "d", "--encoder", TINY, "--listen", "0.0.0.0:0",
                  "--check-config")
    assert checked.returncode == 0, checked.stderr
    checked = run("--state", tmp_path / "n", "--encoder", TINY, "--listen", "0.0.0.0:0",
                  "--check-config")
    assert checked.returncode != 0 and "without keys" in checked.stderr
    with_file = make_daemon("f", args=["--listen", "0.0.0.0:0", "--admin-key-file",
                                       key_file(tmp_path / "key")]).start()
    assert with_file.problem("GET", "/v1/me")[0] == 401


def over_unix(path, target, *headers):
    """The status and body of one request; as curl would send it."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", target, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_unix_socket(make_daemon, tmp_path):
    path = tmp_path / "s"
    daemon = keyed(make_daemon(args=["--listen", f"unix:{path}"]).start())
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    status, body = over_unix(path, "/v1/keys")
    assert status == 200 and '"root"' in body  # our own user needs no key
    assert over_unix(path, "/v1/keys", ("Authorization", "Bearer wrong"))[0] == 401
    pid = os.fork()
    if pid == 0:  # another user does, even in the socket's group
        code = 1
        try:
            tmp_path.chmod(0o711)
            for folder in tmp_path.parents[:2]:
                folder.chmod(0o711)
            path.chmod(0o666)
            os.setgid(65534)
            os.setuid(65534)
            code = over_unix(path, "/v1/keys")[0] // 100
        except PermissionError:
            code = 77
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 77:
        pytest.skip("SKIPPED: only root can become another user")
    assert code == 4
    assert daemon.get("/v1/audit")["audit"][0]["uid"] is None


def test_a_proxy_on_the_unix_socket_is_no_admin(make_daemon, tmp_path):
    path = tmp_path / "s"
    make_daemon("open", args=["--listen", f"unix:{path}", "--trusted-proxies", "unix"]).start()
    assert over_unix(path, "/v1/me")[0] == 200  # as over TCP: whoever is on this machine,
    assert over_unix(path, "/v1/me", ("X-Forwarded-For", "203.0.113.9"))[0] == 401
    assert over_unix(path, "/v1/me", ("Origin", "https://evil.example"))[0] == 403
    path = tmp_path / "t"
    keyed(make_daemon(args=["--listen", f"unix:{path}", "--trusted-proxies", "unix"]).start())
    assert over_unix(path, "/v1/keys")[0] == 401


# ---- proxies


def test_the_clients_address(make_daemon):
    daemon = keyed(make_daemon("a", args=["--trusted-proxies", "127.0.0.0/8, 10.0.0.0/8"]).start())
    for line, seen in (("203.0.113.9", "203.0.113.9"), ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
                       ("1.1.1.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"), ("10.9.9.9", "10.9.9.9"),
                       ("2001:db8::7", "2001:db8::7"), ("nonsense", "127.0.0.1"),
                       ("1.1.1.1\t nonsense", "127.0.0.1"), ("", "127.0.0.1")):
        daemon.post("/v1/models", {"name": "m"}, expect=201, headers={"X-Forwarded-For": line})
        assert daemon.get("/v1/audit")["audit"][0]["address"] == seen, line
        daemon.delete("/v1/models/m")
    daemon = make_daemon("b").start()  # nobody is trusted
    daemon.post("/v1/models", {"name": "m"}, expect=201, headers={"X-Forwarded-For": "1.1.1.1"})
    assert daemon.get("/v1/audit")["audit"][0]["address"] == "127.0.0.1"


def test_without_keys_a_proxy_opens_nothing(make_daemon):
    daemon = make_daemon(args=["--trusted-proxies", "127.0.0.1"]).start()
    answer = daemon.call("GET", "/v1/me", headers={"X-Forwarded-For": "203.0.113.9"})
    assert problem_of(answer)[:2] == (401, "unauthorized")
    assert daemon.get("/v1/me", headers={"X-Forwarded-For": "127.0.0.1"})["role"] == "admin"
