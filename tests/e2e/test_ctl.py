"""learnctl against the real daemon: every command, exit code, its JSON, its words when it fails."""

import csv
import fcntl
import http.server
import io
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import termios
import threading
from pathlib import Path

import pytest
import requests

from learnd_process import ROOT

OK, REFUSED, USAGE, FAILED, PARTLY = range(5)
COMMANDS = re.findall(r'^    \{"([\w-]+)",(?: "|$)', (ROOT / "daemon/ctl/ctl_main.c").read_text(), re.M)
CARD, LOST = "where is my card", "I have lost my card"


def binary():
    path = Path(os.environ.get("LEARNCTL_BIN", ROOT / "build" / "learnctl"))
    assert path.exists(), f"{path} is not there: make all"
    return str(path)


def run(*args, stdin="", code=OK, env=None, cwd=None):
    """(stdout, stderr) of learnctl, which must end with code."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("LEARNCTL_")}
    own.update(env or {})
    done = subprocess.run(
        [binary(), *map(str, args)],
        input=stdin.encode(),
        env=own,
        cwd=cwd,
        timeout=120,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, f"{args}: {done.returncode}, not {code}\n{out}\n{err}"
    assert "Sanitizer" not in err and "runtime error" not in err, err
    return out, err


@pytest.fixture
def ctl(shared, model):
    """learnctl for the shared daemon and a model of its own; with --json the objects it printed."""

    def call(*args, **more):
        env = {"LEARNCTL_URL": shared.url, "LEARNCTL_MODEL": model, **more.pop("env", {})}
        out, err = run(*args, env=env, **more)
        if "--json" in args:
            return [json.loads(line) for line in out.splitlines()]
        return out, err

    call.model = model
    call.daemon = shared
    return call


def teach(ctl, *pairs):
    return [
        ctl("teach", label, text, "--wait", "applied", "--json")[0]["accepted"][0]["example"]
        for text, label in pairs
    ]


def examples(ctl, model=None):
    """What the model was taught, as the head sees it: order, ids and annotators do not count."""
    rows = ctl("examples", "--limit", 0, "--json", *(["--model", model] if model else []))
    return sorted(
        (
            r["text"],
            r.get("text_pair", ""),
            r["status"],
            round(r["weight"], 9),
            tuple(sorted((x["label"], round(x["share"], 9)) for x in r["labels"])),
        )
        for r in rows
    )


class Stub:
    """An HTTP server of one's own: answer(handler, body) says what happens to each request."""

    def __init__(self, answer):
        stub = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece: else the second waits for an ACK

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stub.requests.append((self.command, self.path, dict(self.headers), body))
                answer(self, body)

            do_GET = do_POST = do_DELETE = handle_any

            def send(self, status, body, content_type="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def hang_up(self):
                self.close_connection = True

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def forward(handler, body, url):
    answer = requests.request(
        handler.command,
        url + handler.path,
        data=body,
        timeout=60,
        headers={"Content-Type": handler.headers["Content-Type"]},
    )
    handler.send(answer.status_code, answer.content, answer.headers["Content-Type"])


# ---- without a daemon


@pytest.mark.sanitizer
@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    out, err = run(command, "--help")
    assert out.startswith(f"usage: learnctl {command}") and err == ""
    assert run("help", command)[0] == out
    assert max(map(len, out.splitlines())) <= 110


def test_help_lists_every_command():
    out, _ = run("--help")
    assert re.findall(r"^  ([\w-]+) +\S", out, re.M)[: len(COMMANDS)] == COMMANDS
    assert "exit code" in out
    assert run(code=USAGE)[0] == out


def test_version():
    out, _ = run("version")
    assert re.fullmatch(r"learnctl \d+\.\d+\.\d+\n", out)
    assert json.loads(run("version", "--json")[0])["name"] == "learnctl"


@pytest.mark.parametrize(
    "args, says",
    [
        (["nonsense"], "no command"),
        (["help", "nonsense"], "no command"),
        (["classify", "--nonsense", "x"], "--nonsense"),
        (["classify", "x", "--limit", "3"], "--limit is not for this command"),
        (["classify", "x", "--top"], "--top needs a value"),
        (["classify", "x", "--top", "many"], "whole number"),
        (["classify", "x", "--top", "1.5"], "whole number"),
        (["classify", "x", "--threshold", "nan"], "number"),
        (["classify", "x", "--timeout", "0"], "--timeout"),
        (["classify", "x", "-f", "y"], "not both"),
        (["classify"], "there is no text"),
        (["classify", "-f", "/nowhere/at/all"], "No such file"),
        (["embed"], "there is no text"),
        (["teach"], "which label"),
        (["teach", "a"], "there is no text"),
        (["teach", "a", "x", "--request", "y"], "one of them"),
        (["teach", "a", "x", "--wait", "forever"], "durable or applied"),
        (["reject"], "one of them"),
        (["reject", "x"], "too much"),
        (["reject", "--request", "x", "--text", "y"], "one of them"),
        (["withdraw"], "which example"),
        (["forget"], "which example"),
        (["erase"], "--text or --annotator"),
        (["erase", "--text", "a", "--annotator", "b", "--yes"], "one of them"),
        (["erase", "--text", "a"], "--yes does it"),
        (["erase", "a"], "too much"),
        (["import"], "which file"),
        (["import", "x.txt"], "--format"),
        (["import", "-"], "--format"),
        (["import", "/nowhere/at/all.csv"], "No such file"),
        (["export", "x.txt"], "--format"),
        (["models", "create"], "which model"),
        (["models", "explode", "x"], "explode"),
        (["models", "delete", "x"], "--yes"),
        (["models", "set", "x"], "NAME=VALUE"),
        (["models", "set", "x", "y"], "NAME=VALUE"),
        (["labels", "add"], "which label"),
        (["labels", "explode"], "explode"),
        (["status", "x"], "too much"),
        (["status", "--url", "gopher://x"], "http://HOST:PORT"),
        (["status", "--url", "http://"], "http://HOST:PORT"),
        (["status", "--url", "http://x/?q"], "http://HOST:PORT"),
        (["status", "--url", "unix:"], "unix:PATH"),
        (["status", "--key-file", "/nowhere/at/all"], "No such file"),
    ],
)
def test_wrong_use(args, says):
    out, err = run(*args, code=USAGE)
    assert says in err and out == ""


def test_a_key_must_be_one_line_of_ascii(tmp_path):
    for text in ["", "\n", "two words\n", "k\u00e9y", "x" * 400]:
        (tmp_path / "key").write_text(text)
        assert "holds no key" in run("status", "--key-file", tmp_path / "key", code=USAGE)[1]
    assert "holds no key" in run("status", env={"LEARNCTL_KEY": "a\tb"}, code=USAGE)[1]


@pytest.mark.parametrize(
    "args", [["status"], ["classify", "x"], ["import", "FILE"], ["export"], ["labels"]]
)
def test_daemon_down(args, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text":"a","label":"b"}\n')
    args = [file if a == "FILE" else a for a in args]
    with Stub(None) as stub:  # a port that was free a moment ago
        url = stub.url
    out, err = run(*args, "--url", url, code=FAILED)
    assert f"cannot reach {url}" in err and "make run" in err and "--url" in err
    out, err = run(*args, "--url", f"unix:{tmp_path}/none", code=FAILED)
    assert "is learnd running?" in err


def test_no_such_host():
    _, err = run("status", "--url", "http://host.invalid:1", code=FAILED)
    assert "host.invalid" in err and "look at --url" in err


def test_not_a_learnd():
    with Stub(lambda h, b: h.send(200, b"<html>hello</html>", "text/html")) as stub:
        assert "does --url name a learnd?" in run("labels", "--url", stub.url, code=FAILED)[1]
    with Stub(lambda h, b: h.send(502, b"")) as stub:
        assert "answers 502" in run("labels", "--url", stub.url, code=FAILED)[1]


def test_too_slow():
    gate = threading.Event()
    with Stub(lambda h, b: (gate.wait(60), h.hang_up())) as stub:
        _, err = run("labels", "--url", stub.url, "--timeout", "0.3", code=FAILED)
        gate.set()
    assert "no answer in time" in err and "--timeout" in err


def test_problems_of_the_daemon():
    """5xx is 3, 4xx is 1; no word of a daemon moves a terminal; --json passes them on."""
    problem = {
        "type": "about:blank",
        "title": "x",
        "status": 500,
        "code": "bad\u001b[2J",
        "detail": "a\nb\u202ec",
    }
    for status, code in ((500, FAILED), (507, FAILED), (403, REFUSED), (401, REFUSED)):
        with Stub(lambda h, b, s=status: h.send(s, json.dumps(problem).encode())) as stub:
            _, err = run("labels", "--url", stub.url, code=code)
            assert "\x1b" not in err and "\u202e" not in err and "a b\ufffdc" in err
            _, err = run("labels", "--url", stub.url, "--json", code=code)
            assert json.loads(err)["error"]["code"] == problem["code"]
    assert "ask for one that may" in said(403) and "--key-file" in said(401)


def said(status):
    with Stub(lambda h, b: h.send(status, b'{"code":"x","detail":"y"}')) as stub:
        return run("labels", "--url", stub.url, code=REFUSED)[1]


def test_the_key_is_sent(tmp_path):
    (tmp_path / "key").write_text("abc123\nmore\n")
    answer = b'{"labels":[],"next_cursor":null}'
    with Stub(lambda h, b: h.send(200, answer)) as stub:
        run("labels", "--url", stub.url)
        run("labels", "--url", stub.url, env={"LEARNCTL_KEY": "k-env"})
        run(
            "labels",
            "--url",
            stub.url + "/prefix/",
            "--key-file",
            tmp_path / "key",
            env={"LEARNCTL_KEY": "k-env", "http_proxy": "http://127.0.0.1:9"},
        )
        sent = [r[2].get("Authorization") for r in stub.requests]
    assert sent == [None, "Bearer k-env", "Bearer abc123"]
    assert stub.requests[2][1].startswith("/prefix/v1/models/default/labels?")


# ---- asking


@pytest.mark.sanitizer
def test_first_minute(ctl):
    """An empty model knows nothing; taught, it answers, and says how sure it is."""
    out, _ = ctl("classify", CARD)
    assert out.splitlines()[1].split(None, 3) == ["-", "-", "unsure", CARD]
    (empty,) = ctl("classify", CARD, "--json")
    assert empty["label"] is None and empty["abstain"] is True and empty["model"] == ctl.model
    out, _ = ctl("teach", "card", CARD)
    assert re.fullmatch(r"[0-9a-f]{32}  a new label\n", out)
    ctl("teach", "lost", LOST, "--wait", "applied")
    (answer,) = ctl("classify", CARD, "--json")
    assert answer["label"] == "card" and answer["version"] != empty["version"]
    head, row = ctl("classify", CARD)[0].splitlines()
    assert (
        head.split() == ["label", "score", "text"]
        and row.split()[0] == "card"
        and row.endswith(CARD)
    )


def test_classify_options(ctl):
    teach(ctl, (CARD, "card"), (LOST, "lost"), ("make me a sandwich", "food"))
    (row,) = ctl("classify", CARD, "--top", 2, "--explain", "--json")
    assert len(row["labels"]) == 2 and row["because"][0]["text"] == CARD
    out, _ = ctl("classify", CARD, "--top", 3, "--explain")
    assert len(re.findall(r" or ", out)) == 2 and f"like  {CARD}" in out
    (row,) = ctl("classify", CARD, "--among", "lost", "--among", "food", "--top", 5, "--json")
    assert sorted(x["label"] for x in row["labels"]) == ["food", "lost"]
    (row,) = ctl("classify", CARD, "--threshold", 0, "--json")
    assert len(row["labels"]) == 3
    (row,) = ctl("classify", CARD, "--pair", LOST, "--json")
    (alone,) = ctl("classify", CARD, "--json")
    assert row["tokens"] > alone["tokens"]
    (row,) = ctl("classify", CARD, "--at", alone["version"], "--json")
    assert row["version"] == alone["version"]
    (row,) = ctl("classify", "word " * 500, "--truncate", "left", "--json")
    assert row["truncated"] is True
    _, err = ctl("classify", "word " * 500, "--truncate", "never", code=REFUSED)
    assert "text_too_long" in err and "--truncate right" in err
    ctl("classify", CARD, "--deadline", 60000, "--no-store")
    assert "invalid_version" in ctl("classify", CARD, "--at", "x", code=REFUSED)[1]
    assert "out_of_range" in ctl("classify", CARD, "--top", 0, code=REFUSED)[1]


def test_texts_from_lines(ctl, tmp_path):
    """Lines of a file or of stdin: empty ones are none, ids are line numbers, many go in pages."""
    teach(ctl, (CARD, "card"), (LOST, "lost"))
    text = "\ufeff" + "\r\n".join(["one", "", "two"] + [f"text {i}" for i in range(4, 600)])
    (tmp_path / "texts").write_text(text, newline="")
    rows = ctl("classify", "-f", tmp_path / "texts", "--json")
    assert [int(r["id"]) for r in rows] == [1, 3] + list(range(4, 600))
    assert [r["label"] for r in rows] == [r["label"] for r in ctl("classify", "--json", stdin=text)]
    out, _ = ctl("classify", "-f", "-", stdin="a\x1b[31m\nb")
    assert out.splitlines()[1].endswith("a\ufffd[31m") and len(out.splitlines()) == 3
    _, err = ctl("classify", stdin="x\n" + "y" * (1 << 21), code=USAGE)
    assert "line 2" in err
    long_lines = "word " * 90000 + "\n" + "other " * 120000 + "\nx"  # two do not fit one request
    assert len(ctl("classify", "--json", stdin=long_lines)) == 3


def test_embed(ctl):
    rows = ctl("embed", CARD, LOST, "--json")
    assert len(rows) == 2 and abs(sum(x * x for x in rows[0]["embedding"]) - 1) < 1e-3
    assert rows[0]["tokens"] > 0 and rows[0]["version"] and rows[0]["model"] == ctl.model
    lines = ctl("embed", CARD, LOST)[0].splitlines()
    assert [float(x) for x in lines[1].split()] == pytest.approx(rows[1]["embedding"], abs=1e-6)


def test_unknown_model(ctl, tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", rows_of(10))
    for args in (
        ["classify", "x"],
        ["embed", "x"],
        ["teach", "a", "x"],
        ["labels"],
        ["examples"],
        ["versions"],
        ["export"],
        ["import", file],
        ["models", "show", "nobody"],
        ["labels", "add", "x"],
    ):
        _, err = ctl(*args, "--model", "nobody", code=REFUSED)
        assert err.count("unknown_model") == 1 and "learnctl models" in err


# ---- teaching


def test_teach_many(ctl):
    answer = ctl(
        "teach",
        "card",
        "a",
        "b",
        "c",
        "--wait",
        "applied",
        "--annotator",
        "ann",
        "--source",
        "test",
        "--weight",
        2,
        "--json",
    )[0]
    assert len(answer["accepted"]) == 3
    rows = ctl("examples", "--annotator", "ann", "--json")
    assert sorted(r["text"] for r in rows) == ["a", "b", "c"] and {r["weight"] for r in rows} == {2}
    out, _ = ctl("teach", "lost", stdin="".join(f"line {i}\n" for i in range(1500)))
    assert len(out.splitlines()) == 1500
    assert ctl("teach", "lost", "again", "--quiet") == ("", "")
    # Each item stands alone: a wrong one is told by its number.
    out, err = ctl("teach", "card", "good", "", code=PARTLY)
    assert len(out.splitlines()) == 1 and "text 2: empty_text" in err
    _, err = ctl("teach", "card", "", code=REFUSED)
    assert "empty_text" in err
    _, err = ctl("teach", "new", "x", "y", "--no-new-labels", code=REFUSED)
    assert err.count("unknown_label") == 2
    assert "out_of_range" in ctl("teach", "card", "x", "--weight", 1000, code=REFUSED)[1]


def test_corrections(ctl):
    """teach, confirm, reject, withdraw and forget, by request, by example and by text."""
    first, second = teach(ctl, (CARD, "card"), (LOST, "lost"))
    request = ctl("classify", "a new text", "--json")[0]
    assert request["request_id"] not in ctl("classify", "x")[0]
    answer = ctl("confirm", "--request", request["request_id"], "--wait", "applied", "--json")[0]
    third = answer["accepted"][0]["example"]
    assert ctl("examples", third, "--json")[0]["label"] == request["label"]
    ids = ctl("classify", "another text", "--ids")[0].splitlines()[1].split()[0]
    ctl("reject", "--request", ids, "--wait", "applied")
    (row,) = ctl("examples", "--contains", "another", "--json")
    assert row["status"] == "rejected" and row["label"] is None
    ids = ctl("classify", "a third text", "--ids")[0].splitlines()[1].split()[0]
    ctl("teach", "food", "--request", ids)
    assert ctl("examples", "--label", "food", "--json")[0]["text"] == "a third text"
    ctl("teach", "lost", "--example", first, "--wait", "applied")
    assert ctl("examples", first, "--json")[0]["label"] == "lost"
    ctl("reject", "--example", first)
    assert ctl("examples", first, "--json")[0]["status"] == "rejected"
    ctl("confirm", "--text", LOST, "--label", "lost", "--annotator", "b")
    assert ctl("examples", second, "--json")[0]["annotators"] == 2
    ctl("withdraw", second, "--annotator", "b", "--wait", "applied")
    assert ctl("examples", second, "--json")[0]["annotators"] == 1
    assert "no_vote" in ctl("withdraw", second, "--annotator", "b", code=REFUSED)[1]
    ctl("withdraw", second)
    assert ctl("examples", second, "--json")[0]["status"] == "withdrawn"
    assert ctl("forget", first, second, third) == ("", "")
    assert ctl("forget", first) == ("", "")
    assert "unknown_example" in ctl("examples", first, code=REFUSED)[1]
    assert "unknown_example" in ctl("withdraw", first, code=REFUSED)[1]
    assert "invalid_id" in ctl("forget", "../models", code=REFUSED)[1]
    assert "unknown_request" in ctl("reject", "--request", "01ABC", code=REFUSED)[1]


# ---- files


def test_erase(ctl):
    teach(ctl, (CARD, "card"), (LOST, "lost"))
    ctl("teach", "card", "a third text", "--annotator", "ann")
    assert ctl("erase", "--text", CARD, "--yes")[0] == \
        "1 examples, 1 votes, 0 remembered requests\n"
    [said] = ctl("erase", "--annotator", "ann", "--yes", "--json")
    assert said == {"erased": {"examples": 1, "votes": 1, "requests": 0}}
    assert "unknown_model" in run("erase", "--text", LOST, "--yes", "--model", "nobody",
                                  "--url", ctl.daemon.url, code=REFUSED)[1]
    assert [e[0] for e in examples(ctl)] == [LOST]


def test_erase_asks_first(ctl):
    """On a terminal, and only "yes" is a yes."""
    teach(ctl, (CARD, "card"))
    for answer, code in ((b"no\n", USAGE), (b"y\n", USAGE), (b"yes\n", OK)):
        assert len(examples(ctl)) == 1
        own, theirs = pty.openpty()
        os.write(own, answer)
        done = subprocess.run([binary(), "erase", "--text", CARD, "--model", ctl.model,
                               "--url", ctl.daemon.url], stdin=theirs, timeout=120, check=False,
                              capture_output=True)
        os.close(own)
        os.close(theirs)
        assert done.returncode == code, done.stderr
        assert b"Type yes" in done.stderr
    assert examples(ctl) == []


def rows_of(n, labels=5):
    return [{"text": f"text number {i}", "label": f"label {i % labels}"} for i in range(n)]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.sanitizer
def test_import_jsonl(ctl, tmp_path):
    rows = rows_of(300)
    rows[7].update(text_pair="a pair", annotator="ann", weight=2.5, source="file")
    out, err = ctl("import", write_jsonl(tmp_path / "a.jsonl", rows), "--wait", "applied")
    assert out == "300 accepted, 0 of them known before; 0 rejected\n" and err == ""
    got = {r["text"]: r for r in ctl("examples", "--limit", 0, "--json")}
    assert len(got) == 300 and got["text number 7"]["text_pair"] == "a pair"
    assert got["text number 7"]["weight"] == 2.5 and got["text number 8"]["label"] == "label 3"
    assert ctl("classify", "text number 11", "--json")[0]["label"] is not None
    # The same again changes nothing; under another word it is taught anew.
    (summary,) = ctl("import", tmp_path / "a.jsonl", "--json")
    assert (summary["accepted"], summary["duplicates"], summary["rejected"]) == (300, 300, 0)
    (summary,) = ctl("import", tmp_path / "a.jsonl", "--batch", "second", "--json")
    assert (summary["accepted"], summary["duplicates"]) == (300, 0)
    assert len(ctl("examples", "--limit", 0, "--json")) == 300


def test_import_csv(ctl, tmp_path):
    """RFC 4180 as spreadsheets write it: a mark, quotes, line ends in fields, an empty line."""
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbflabel,text,weight\r\ncard,"where, oh where\r\nis ""my"" card",2\r\n\r\n'
        b'lost,5" screen,\r\n'
    )
    assert ctl("import", tmp_path / "a.csv")[0].startswith("2 accepted")
    got = {r["text"]: r for r in ctl("examples", "--json")}
    assert set(got) == {'where, oh where\r\nis "my" card', '5" screen'}
    assert got['5" screen']["weight"] == 1 and got['5" screen']["label"] == "lost"
    # On the screen a text stays on its line.
    assert len(ctl("examples")[0].splitlines()) == 3
    named = "utterance,intent\nx,y\n"
    ctl(
        "import",
        "-",
        "--format",
        "csv",
        "--text-column",
        "utterance",
        "--label-column",
        "intent",
        stdin=named,
    )
    _, err = ctl("import", "-", "--format", "csv", stdin=named, code=USAGE)
    assert "utterance" in err and "--text-column" in err
    ctl(
        "import",
        "-",
        "--format",
        "ndjson",
        "--annotator",
        "ann",
        "--weight",
        "3",
        "--source",
        "s",
        stdin='{"text":"t","label":"y"}',
    )
    assert ctl("examples", "--annotator", "ann", "--json")[0]["weight"] == 3


def test_import_rejected_rows(ctl, tmp_path):
    """Bad rows are told by their line in the file, whoever finds them, and the others are kept."""
    (tmp_path / "a.csv").write_text(
        'text,label,weight\na,x,1\n"two\nlines",x,0\n,x,1\nb,x,many\n' 'c\n"d"e,x,1\nf,x,1\n'
    )
    out, err = ctl("import", tmp_path / "a.csv", code=PARTLY)
    assert out == "2 accepted, 0 of them known before; 5 rejected\n"
    found = re.findall(r"a\.csv:(\d+): (\w+): .+?(?: \((\w+)\))?$", err, re.M)
    assert sorted(found) == [
        ("3", "out_of_range", "weight"),
        ("5", "missing_field", "text"),
        ("6", "wrong_type", "weight"),
        ("7", "wrong_columns", ""),
        ("8", "malformed_csv", ""),
    ]
    rows = ctl("import", tmp_path / "a.csv", "--json", code=PARTLY)
    assert rows[-1]["accepted"] == 2 and rows[-1]["duplicates"] == 2 and rows[-1]["rejected"] == 5
    assert sorted((str(r["line"]), r["code"], r["field"]) for r in rows[:-1]) == sorted(found)
    lines = [
        '{"text":"a","label":"b"',
        '{"text":"","label":"b"}',
        '{"text":"a","label":"a\\nb"}',
        "[]",
        '{"text":"a","lable":"b"}',
    ]
    _, err = ctl("import", "-", "--format", "jsonl", stdin="\n".join(lines), code=REFUSED)
    assert [int(n) for n in re.findall(r"^stdin:(\d+): ", err, re.M)] == [1, 4, 5, 2, 3]
    (tmp_path / "empty.jsonl").write_text("")
    assert ctl("import", tmp_path / "empty.jsonl")[0].startswith("0 accepted")
    _, err = ctl("import", tmp_path / "empty.jsonl", "--format", "csv", code=USAGE)
    assert "the first line must name the columns" in err
    _, err = ctl("import", tmp_path, "--format", "csv", code=USAGE)
    assert "directory" in err


def test_import_beyond_what_an_answer_lists(ctl):
    """More rejected rows than the daemon names in one answer: each is told."""
    lines = "".join(
        f'{{"text":"t{i}","label":"{"x" if i % 2 else "y" * 200}"}}\n' for i in range(4500)
    )
    rows = ctl("import", "-", "--format", "jsonl", "--json", stdin=lines, code=PARTLY)
    assert [r["line"] for r in rows[:-1]] == list(range(1, 4501, 2))
    assert rows[-1]["accepted"] == 2250 and rows[-1]["rejected"] == 2250


def test_import_long_texts(ctl):
    """Requests are cut by bytes too; a row that no daemon would take costs itself."""
    texts = ["a" * 600_000, "b" * 600_000, "c" * 1_200_000, "d"]
    lines = "".join(json.dumps({"text": t, "label": "x"}) + "\n" for t in texts)
    out, err = ctl("import", "-", "--format", "jsonl", stdin=lines, code=PARTLY)
    assert out.startswith("3 accepted") and "stdin:3: record_too_long" in err


def test_import_that_broke_off(ctl, tmp_path):
    """The second request is done and not answered. Repeated, nothing is lost or taught twice."""
    file = write_jsonl(tmp_path / "a.jsonl", rows_of(2500))
    count = []

    def answer(handler, body):
        if handler.command == "GET":
            forward(handler, body, ctl.daemon.url)
            return
        count.append(body.count(b"\n"))
        if len(count) == 1:
            forward(handler, body, ctl.daemon.url)
        elif len(count) == 2:
            requests.post(
                ctl.daemon.url + handler.path,
                data=body,
                timeout=60,
                headers={"Content-Type": handler.headers["Content-Type"]},
            )
            handler.hang_up()
        else:  # libcurl tries a connection that was kept once more on a fresh one
            handler.hang_up()

    with Stub(answer) as stub:
        out, err = ctl("import", file, "--url", stub.url, code=FAILED)
    assert count[:2] == [1000, 1000] and len(count) <= 3
    assert (
        out.startswith("1000 accepted") and "broke off" in err and "the same command again" in err
    )
    (summary,) = ctl("import", file, "--json")
    assert (summary["accepted"], summary["duplicates"], summary["rejected"]) == (2500, 2000, 0)
    assert len(ctl("examples", "--limit", 0, "--json")) == 2500
    events = [r for r in ctl("versions", "--limit", 0, "--json") if r["op"] == "label"]
    assert len(events) == 2500  # nothing was taught twice


def test_import_into_a_busy_daemon(ctl, tmp_path):
    """503 puts a request off, it does not lose it; a full disk ends the import at once."""
    file = write_jsonl(tmp_path / "a.jsonl", rows_of(10))
    turns = []

    def refuse_first(status):
        turns.clear()
        problem = {"status": status, "code": "some_word", "detail": "some words"}

        def answer(handler, body):
            if handler.command == "POST":
                turns.append(body)
            if len(turns) != 1:
                forward(handler, body, ctl.daemon.url)
            else:
                handler.send(status, json.dumps(problem).encode(), Retry_After="1")

        return answer

    with Stub(refuse_first(507)) as stub:
        assert "some_word" in ctl("import", file, "--url", stub.url, code=FAILED)[1]
    assert len(turns) == 1
    with Stub(refuse_first(503)) as stub:
        assert ctl("import", file, "--url", stub.url)[0].startswith("10 accepted, 0 ")
    assert len(turns) == 2 and turns[0] == turns[1]


def screen(args, env, stream="stderr", columns=80):
    """One stream of learnctl when it is a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    own = {k: v for k, v in os.environ.items() if not k.startswith("LEARNCTL_")}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: follower}
    process = subprocess.Popen(
        [binary(), *map(str, args)], env={**own, **env}, stdin=subprocess.DEVNULL, **streams
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            more = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(leader)
    assert process.wait(60) == OK, shown
    return shown.decode()


def test_tables_fit_the_terminal(ctl):
    """The last column is cut, by width and not by bytes; a pipe gets all of it."""
    teach(ctl, ("\u4e2d" * 100, "wide"), ("a" * 100, "narrow"))
    env = {"LEARNCTL_URL": ctl.daemon.url, "LEARNCTL_MODEL": ctl.model, "NO_COLOR": "1"}
    head, wide, narrow = screen(["examples"], env, "stdout", 90).replace("\r", "").splitlines()
    left = head.index("text")
    assert narrow[left:] == "a" * (89 - left) + "\u2026"
    assert wide[left:] == "\u4e2d" * ((89 - left) // 2) + "\u2026"
    assert "a" * 100 in ctl("examples")[0]


def test_colour_is_for_terminals(ctl):
    """And only where nobody minds: NO_COLOR, --color, a pipe."""
    env = {"LEARNCTL_URL": ctl.daemon.url, "LEARNCTL_MODEL": ctl.model, "TERM": "xterm"}
    assert "\x1b[1m" in screen(["models"], env, "stdout")
    assert "\x1b" in screen(["models"], {**env, "NO_COLOR": ""}, "stdout")
    assert "\x1b" not in screen(["models"], {**env, "NO_COLOR": "1"}, "stdout")
    assert "\x1b" in screen(["models", "--color", "always"], {**env, "NO_COLOR": "1"}, "stdout")
    assert "\x1b" not in screen(["models", "--color", "never"], env, "stdout")
    assert "\x1b" not in screen(["models"], {**env, "TERM": "dumb"}, "stdout")
    assert "\x1b" not in ctl("models")[0] and "\x1b" in ctl("models", "--color", "always")[0]
    _, err = ctl("models", "--color", "red", code=USAGE)
    assert "auto, always or never" in err


def test_progress_is_for_terminals(ctl, tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", rows_of(2200))
    env = {"LEARNCTL_URL": ctl.daemon.url, "LEARNCTL_MODEL": ctl.model}
    shown = screen(["import", file], env)
    assert "100 %  2200 rows" in shown and shown.rstrip(" ").endswith("\r")
    assert screen(["import", file, "--quiet"], env) == ""
    assert ctl("import", file)[1] == ""
    assert "100 %" in screen(["export", tmp_path / "b.csv"], env)
    assert screen(["export", tmp_path / "b.csv", "--quiet"], env) == ""


HOSTILE = [
    'plain',
    'comma, and "quotes"',
    'two\nlines\r\nand more',
    '  blanks  ',
    "=1+1",
    "\ufeffmark",
    "nul\x00nul",
    "\u202eright to left",
    "\U0001f600 \u4e2d\u6587",
    "tab\there",
    "'single'",
    "\\n",
    '"',
    ",",
    "\n",
    "\r",
    "ends in\r",
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "ndjson"])
def test_export_then_import_gives_the_same(ctl, form, tmp_path):
    """Any text, pairs, weights, disagreeing annotators; examples that teach nothing stay behind."""
    items = [{"text": t, "label": f"l{i % 3}"} for i, t in enumerate(HOSTILE)]
    items += [
        {"text": t, "label": "pair", "text_pair": "the, \"pair\"", "weight": 0.1 * (i + 1)}
        for i, t in enumerate(HOSTILE)
    ]
    items += [
        {"text": "disputed", "label": label, "annotator": name, "weight": weight}
        for label, name, weight in (
            ("l0", "a", 1),
            ("l1", "b", 2.5),
            ("l1", "c", 0.3),
            ("l, 2", "d", 7),
        )
    ]
    items += [{"text": "heavy", "label": "l0", "weight": 100}]
    ctl.daemon.teach([{**i, "model": ctl.model} for i in items])
    ctl("teach", "l0", "withdrawn later")
    ctl("withdraw", ctl("examples", "--contains", "withdrawn", "--json")[0]["example"])
    file = tmp_path / f"all.{form}"
    _, err = ctl("export", file)
    assert err == f"learnctl: {2 * len(HOSTILE) + 2} examples in {file}\n"
    other = ctl.model + "-copy"
    ctl("models", "create", other)
    out, _ = ctl("import", file, "--model", other, "--wait", "applied")
    assert out.startswith(f"{2 * len(HOSTILE) + 4} accepted, 0 ")
    before = [e for e in examples(ctl) if e[2] == "active"]
    assert examples(ctl, other) == before and len(before) == 2 * len(HOSTILE) + 2
    # Once more, now that votes have the names that export gives them: the same rows to the byte.
    again = tmp_path / f"again.{form}"
    ctl("export", again, "--model", other)
    assert sorted(again.read_bytes().splitlines()) == sorted(file.read_bytes().splitlines())
    if form == "csv":  # as another reader of CSV sees it
        rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
        assert {r["text"] for r in rows} == {i["text"] for i in items}


def test_export_files(ctl, tmp_path):
    teach(ctl, (CARD, "card"), (LOST, "lost"))
    out, err = ctl("export")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"text": CARD, "label": "card"},
        {"text": LOST, "label": "lost"},
    ]
    assert err == "" and ctl("export", "-", "--format", "csv")[0].startswith("text,label,")
    assert [
        json.loads(line)["label"] for line in ctl("export", "--label", "lost")[0].splitlines()
    ] == ["lost"]
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    ctl("export", target)
    assert (
        target.read_text() == out
        and stat.S_IMODE(target.stat().st_mode) == 0o666 & ~current_umask()
    )
    # A failure leaves what was there, and nothing beside it.
    with Stub(
        lambda h, b: h.send(200, b'{"examples":2}') if "?" not in h.path else h.hang_up()
    ) as stub:
        ctl("export", target, "--url", stub.url, code=FAILED)
    assert target.read_text() == out
    ctl("export", target, "--model", "nobody", code=REFUSED)
    assert os.listdir(tmp_path) == ["out.jsonl"]
    assert "No such file" in ctl("export", tmp_path / "no" / "x.csv", code=USAGE)[1]
    assert "no file to be replaced" in ctl("export", "/dev/null", "--format", "csv", code=USAGE)[1]
    assert Path("/dev/null").is_char_device()
    if Path("/dev/full").exists():
        own = {**os.environ, "LEARNCTL_URL": ctl.daemon.url, "LEARNCTL_MODEL": ctl.model}
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run(
                [binary(), "export"], stdout=full, stderr=subprocess.PIPE, env=own, check=False
            )
        assert done.returncode == USAGE and b"No space left" in done.stderr


def test_an_interrupted_export_leaves_nothing(tmp_path):
    asked, gate = threading.Event(), threading.Event()

    def answer(handler, _):
        if "?" not in handler.path:
            handler.send(200, b'{"examples":2}')
        else:
            asked.set()
            gate.wait(60)
            handler.hang_up()

    with Stub(answer) as stub:
        process = subprocess.Popen(
            [binary(), "export", str(tmp_path / "x.csv"), "--url", stub.url, "--quiet"],
            # A shell that runs the suite behind itself has it ignore the signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert asked.wait(60)
        assert len(os.listdir(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
        gate.set()
    assert status == -signal.SIGINT and os.listdir(tmp_path) == []


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---- managing


def test_models(ctl):
    name = ctl.model + "-own"
    (made,) = ctl("models", "create", name, "features=128", "score_min=0.25", "--json")
    assert made["settings"]["features"] == 128 and made["settings"]["score_min"] == 0.25
    assert name in [m["name"] for m in ctl("models", "--json")]
    out, _ = ctl("models")
    assert re.search(rf"^{name} +0 +0 ", out, re.M)
    (changed,) = ctl("models", "set", name, "score_min=0.5", "--json")
    assert changed["settings"]["score_min"] == 0.5
    assert re.search(r"^score_min +0.5$", ctl("models", "show", name)[0], re.M)
    assert ctl("models", "show", name, "--json")[0]["name"] == name
    assert "model_exists" in ctl("models", "create", name, code=REFUSED)[1]
    assert "immutable_field" in ctl("models", "set", name, "features=256", code=REFUSED)[1]
    assert "unknown_field" in ctl("models", "set", name, "fun=1", code=REFUSED)[1]
    assert "wrong_type" in ctl("models", "set", name, "score_min=high", code=REFUSED)[1]
    assert "invalid_name" in ctl("models", "create", "a/b", code=REFUSED)[1]
    ctl("models", "delete", name, code=USAGE)
    assert name in [m["name"] for m in ctl("models", "--json")]
    assert ctl("models", "delete", name, "--yes") == ("", "")
    assert name not in [m["name"] for m in ctl("models", "--json")]
    ctl("models", "delete", name, "--yes")


def test_labels(ctl):
    (made,) = ctl("labels", "add", "a label / of \u00fcs?", "--json")
    assert made["label"] == "a label / of \u00fcs?"
    ctl("labels", "add", "second")
    assert [r["label"] for r in ctl("labels", "--json")] == ["a label / of \u00fcs?", "second"]
    assert "label_exists" in ctl("labels", "add", "second", code=REFUSED)[1]
    assert "invalid_name" in ctl("labels", "add", "a\nb", code=REFUSED)[1]
    out, err = ctl("labels", "--limit", 1)
    assert len(out.splitlines()) == 2 and "--limit 0" in err


def test_lists(ctl):
    """Filters, limits, pages."""
    ctl(
        "import",
        "-",
        "--format",
        "jsonl",
        "--wait",
        "applied",
        stdin="".join(json.dumps(r) + "\n" for r in rows_of(250)),
    )
    assert len(ctl("examples", "--json")) == 50
    assert len(ctl("examples", "--limit", 120, "--json")) == 120
    assert len(ctl("examples", "--limit", 0, "--json")) == 250
    out, err = ctl("examples", "-n", 120)
    assert len(out.splitlines()) == 121 and "there are more" in err
    assert ctl("examples", "-n", 0)[1] == ""
    assert len(ctl("examples", "--label", "label 1", "--limit", 0, "--json")) == 50
    assert len(ctl("examples", "--contains", "number 24", "--json")) == 11
    assert ctl("examples", "--status", "withdrawn", "--json") == []
    (one,) = ctl("examples", "-n", 1, "--json")
    assert ctl("examples", one["example"], "--json") == [one]
    versions = ctl("versions", "--limit", 0, "--json")
    assert (
        len(versions) == 250 + 5 + 1
        and versions[0]["state"] == "live"
        and versions[-1]["op"] is None
    )
    assert ctl("versions", versions[3]["version"], "--json") == [versions[3]]
    out, err = ctl("versions")
    assert len(out.splitlines()) == 21 and "there are more" in err
    assert "unknown_version" in ctl("versions", "0.99999999", code=REFUSED)[1]


def test_status(ctl):
    out, _ = ctl("status")
    assert f"at {ctl.daemon.url}, ready" in out and "tiny-encoder" in out and ctl.model in out
    assert re.search(r"^ok +journal: ", out, re.M)
    (row,) = ctl("status", "--json")
    assert row["ready"] is True and row["info"]["name"] == "learnd"
    assert row["health"]["status"] == "ready" and ctl.model in [m["name"] for m in row["models"]]


def test_status_not_ready():
    def answer(handler, _):
        if handler.path == "/health/ready":
            handler.send(
                503,
                b'{"status":"unready","checks":'
                b'[{"name":"journal","ok":false,"detail":"No space"}]}',
            )
        elif handler.path == "/v1/info":
            handler.send(200, b'{"name":"learnd","version":"0.0.0"}')
        else:
            handler.send(200, b'{"models":[],"next_cursor":null}')

    with Stub(answer) as stub:
        out, _ = run("status", "--url", stub.url, code=FAILED)
        assert "NOT READY" in out and "FAILS     journal: No space" in out
        assert (
            json.loads(run("status", "--url", stub.url, "--json", code=FAILED)[0])["ready"] is False
        )


def test_a_local_socket(make_daemon, tmp_path):
    path = f"unix:{tmp_path}/s"
    make_daemon(args=["--listen", path]).start()
    run("teach", "card", CARD, "--url", path)
    out, _ = run("examples", env={"LEARNCTL_URL": path})
    assert CARD in out


def test_flags_anywhere(ctl):
    teach(ctl, (CARD, "card"))
    expected = [r["label"] for r in ctl("labels", "--json")]
    out, _ = ctl(
        "--quiet", "-j", "labels", "--model=" + ctl.model, env={"LEARNCTL_MODEL": "nobody"}
    )
    assert [json.loads(line)["label"] for line in out.splitlines()] == expected
    assert ctl("classify", "--json", "--", "--not a flag", "-5")[1]["label"] == "card"
