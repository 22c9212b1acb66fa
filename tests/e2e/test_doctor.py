"""learnctl doctor: each finding provoked once on a copy of a state folder that has seen every kind of
event; what it repairs, what it leaves alone, and the proof that an erased text is gone."""
import json
import os
import shutil
import sqlite3
import threading
import unicodedata

import pytest

from learnd_process import Daemon
from state_folder import LESSONS, OK, REFUSED, USAGE, copy_of, ctl, files
from test_start import small_disk  # noqa: F401 (a fixture)

SECRET = "my name is Zebulon Quaxley and I live at number 77"


def teach_everything(d):
    """Every operation of the journal at least once."""
    d.teach(LESSONS)
    d.teach([{"text": "where is my card", "label": "lost", "annotator": "ann"},
             {"text": "where is my card", "label": "card", "annotator": "ben", "weight": 3},
             {"text": "my purse", "label": "lost", "annotator": "ann"},
             {"text": "my purse", "label": "card", "annotator": "eve"},
             {"text": "sunny today", "label": "weather", "annotator": "eve"},
             {"text": "rain today", "label": "wet"}, {"text": "snow today", "label": "cold"},
             {"text": "old news", "label": "news"}, {"text": "gone soon", "label": "card"}])
    rows = {e["text"]: e["example"] for e in
            d.get("/v1/models/default/examples?limit=100")["examples"]}
    d.teach([{"example": rows["my purse"], "action": "reject", "label": "card", "annotator": "ben"},
             {"example": rows["my purse"], "action": "withdraw", "annotator": "ann"}])
    d.delete(f"/v1/examples/{rows['gone soon']}")
    d.teach([("gone soon", "lost")])  # and is back
    labels = "/v1/models/default/labels"
    d.patch(f"{labels}/weather", {"label": "sky"})
    d.post(f"{labels}/wet/merge", {"into": "sky"})
    d.post(f"{labels}/cold/split", {"label": "ice", "examples": [rows["snow today"]]})
    d.delete(f"{labels}/news")
    d.post("/v1/erase", {"annotator": "eve"})
    d.post("/v1/models", {"name": "many", "kind": "multi"}, expect=201)
    d.teach([{"text": "rain and sun", "labels": ["wet", "dry"], "annotator": "ann"},
             {"text": "rain and sun", "labels": ["wet"], "annotator": "ben"},
             {"text": "nothing", "labels": []}, {"text": "only one", "labels": ["dry"]}],
            model="many")
    d.settle()
    d.settle("many")


@pytest.fixture(scope="module")
def seasoned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seasoned")
    d = Daemon(folder / "state", folder / "log").start()
    try:
        teach_everything(d)
        d.teach([(f"card number {i}", "card") for i in range(20)] +
                [(f"purse number {i}", "lost") for i in range(20)])
        ctl("train", "steps_max=3", "--force", "--watch", daemon=d)
        d.settle()
        d.stop()
    finally:
        d.kill9()
    return folder / "state"


@pytest.fixture
def state(seasoned, tmp_path):
    return copy_of(seasoned, tmp_path / "state")


def doctor(state, *args, code=OK):
    """(findings by code, summary)"""
    out, err = ctl("doctor", "--state", state, "--json", *args, code=code)
    rows = [json.loads(line) for line in out.splitlines()]
    if code == USAGE:
        return err
    for row in rows[:-1]:
        assert row["advice"] and row["what"] and row["severity"] in ("error", "warning")
    return {row["code"]: row for row in rows[:-1]}, rows[-1]


def run_sql(state, *statements):
    with sqlite3.connect(state / "learnd.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_sound_folder(state):
    found, summary = doctor(state, "--deep")
    assert found == {} and summary["errors"] == summary["warnings"] == 0
    assert summary["models"] == 2 and summary["examples"] > 50 and not summary["daemon"]
    out, _ = ctl("doctor", "--state", state, "--deep")
    assert f"{state} is sound\n" in out


def a_vote_lost(state):
    run_sql(state, "DELETE FROM vote WHERE annotator = 'ben' AND sign = 1")


def a_vote_given(state):
    run_sql(state, "INSERT INTO vote SELECT example, 'mallory', 1, label, 1, seq FROM vote LIMIT 1")


def a_weight_changed(state):
    run_sql(state, "UPDATE vote SET weight = 99 WHERE annotator = 'ben' AND weight = 3")


def an_opinion_lost(state):
    run_sql(state, "DELETE FROM opinion WHERE annotator = 'ann'")


def an_example_relabelled(state):
    run_sql(state, "UPDATE example SET label = (SELECT id FROM label WHERE name = 'card')"
            " WHERE text = 'I lost my wallet'")


def an_also_lost(state):
    run_sql(state, "DELETE FROM example_also")


def an_event_lost(state):
    run_sql(state, "DELETE FROM event WHERE example ="
            " (SELECT id FROM example WHERE text = 'I lost my wallet')")


def a_seq_moved(state):
    run_sql(state, "UPDATE model SET seq = seq + 1 WHERE name = 'default'")


def a_label_of_itself(state):
    run_sql(state, "UPDATE label SET status = 'merged', into_label = id WHERE name = 'ice'")


def labels_in_a_ring(state):
    run_sql(state, "UPDATE label SET status = 'merged', into_label = (SELECT id FROM label l WHERE"
            " l.name = 'wet' AND l.model = label.model) WHERE name = 'sky'")


def an_alias_twice(state):
    run_sql(state, "INSERT INTO label_alias SELECT model, 'card', id FROM label"
            " WHERE name = 'lost'")


def an_encoder_unknown(state):
    run_sql(state, "UPDATE model SET encoder = 77 WHERE name = 'default'")


def an_encoder_missing(state):
    shutil.rmtree(state / "encoders" / "1")


def an_encoder_damaged(state):
    flip(state / "encoders" / "1" / "model.safetensors")


def an_encoder_of_nobody(state):
    shutil.copytree(state / "encoders" / "1", state / "encoders" / "9")


def a_half_made_encoder(state):
    (state / "encoders" / "new-abcdef").mkdir()


def a_run_of_nobody(state):
    (state / "encoders" / "run-77.ckpt").write_bytes(b"old")


def a_run_damaged(state):
    run_sql(state, "UPDATE run SET state = 'running'")
    (state / "encoders" / "run-1.ckpt").write_bytes(b"damaged")


def a_head(state):
    with sqlite3.connect(state / "learnd.db") as db:
        row = db.execute("SELECT model, encoder, seq FROM head_snapshot ORDER BY seq DESC").fetchone()
    db.close()
    return state / "heads" / f"{row[0]}-{row[1]}-{row[2]}.head"


def a_head_missing(state):
    a_head(state).unlink()


def a_head_damaged(state):
    flip(a_head(state))


def a_head_of_nobody(state):
    shutil.copy(a_head(state), state / "heads" / "1-0-999999.head")


def a_stranger(state):
    (state / "notes.txt").write_text("mine")


def a_stranger_among_heads(state):
    (state / "heads" / "notes.txt").write_text("mine")


def remains_of_a_restore(state):
    (state / "restoring").mkdir()


def open_to_all(state):
    state.chmod(0o755)


def an_erasure_unfinished(state):
    run_sql(state, "UPDATE meta SET unscrubbed = 1")


def a_page_damaged(state):
    content = bytearray((state / "learnd.db").read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096:page * 4096 + 64] = os.urandom(64)
    (state / "learnd.db").write_bytes(content)


def no_database_at_all(state):
    (state / "learnd.db").write_bytes(b"this is no database" * 1000)


def a_key_to_nothing(state):
    run_sql(state, "PRAGMA foreign_keys=OFF", "INSERT INTO embedding VALUES(99999, 0, x'00')")


DAMAGES = [(a_vote_lost, "fold_votes"), (a_vote_given, "fold_votes"),
           (a_weight_changed, "fold_votes"), (an_opinion_lost, "fold_votes"),
           (an_example_relabelled, "fold_example"), (an_also_lost, "fold_example"),
           (an_event_lost, "fold_counts"), (a_seq_moved, "fold_counts"),
           (a_label_of_itself, "label_cycle"), (labels_in_a_ring, "label_cycle"),
           (an_alias_twice, "label_clash"), (an_encoder_unknown, "live_encoder"),
           (an_encoder_missing, "encoder_missing"), (an_encoder_damaged, "encoder_damaged"),
           (an_encoder_of_nobody, "encoder_orphan"), (a_half_made_encoder, "encoder_orphan"),
           (a_run_of_nobody, "encoder_orphan"), (a_run_damaged, "run_image"),
           (a_head_missing, "head_missing"), (a_head_damaged, "head_damaged"),
           (a_head_of_nobody, "head_orphan"), (a_stranger, "strange_file"),
           (a_stranger_among_heads, "strange_file"), (remains_of_a_restore, "restore_remains"),
           (open_to_all, "permissions"), (an_erasure_unfinished, "erasure_unfinished"),
           (a_page_damaged, "database_damaged"), (no_database_at_all, "database_damaged"),
           (a_key_to_nothing, "foreign_key")]


@pytest.mark.parametrize("damage,code", DAMAGES, ids=[d.__name__ for d, _ in DAMAGES])
def test_each_damage_is_found(damage, code, state):
    damage(state)
    before = {f: (state / f).read_bytes() for f in files(state) if "-shm" not in f}
    found, summary = doctor(state, code=REFUSED)
    assert code in found, found
    assert summary["errors"] + summary["warnings"] >= 1
    after = {f: (state / f).read_bytes() for f in files(state) if "-shm" not in f}
    assert {f: b for f, b in after.items() if b or f in before} == before  # it only reads
    out, _ = ctl("doctor", "--state", state, code=REFUSED)
    assert f"{code}:" in out and found[code]["advice"] in out


REPAIRED = [a_head_missing, a_head_damaged, a_head_of_nobody, an_encoder_of_nobody,
            a_half_made_encoder, a_run_of_nobody, remains_of_a_restore, open_to_all,
            an_erasure_unfinished]


@pytest.mark.parametrize("damage", REPAIRED, ids=[d.__name__ for d in REPAIRED])
def test_what_is_repaired(damage, state):
    damage(state)
    found, summary = doctor(state, "--repair")
    repaired = summary["repaired"]
    assert summary["errors"] == summary["warnings"] == 0
    assert sum(repaired.values()) >= (damage is not an_erasure_unfinished), (found, repaired)
    assert doctor(state)[0] == {}


@pytest.mark.parametrize("damage,code", [(a_vote_lost, "fold_votes"), (a_stranger, "strange_file"),
                                         (an_encoder_missing, "encoder_missing")])
def test_what_needs_judgement_is_left_alone(damage, code, state):
    damage(state)
    found, summary = doctor(state, "--repair", code=REFUSED)
    assert code in found and summary["repaired"]["images"] == 0


@pytest.mark.sanitizer
def test_a_head_that_holds_something_else(state, tmp_path):
    """--deep sees it, --repair has it made anew, and then it is right."""
    with sqlite3.connect(state / "learnd.db") as db:
        db.execute("UPDATE example SET weight = 2 WHERE text = 'I lost my wallet'")
        db.execute("UPDATE vote SET weight = 2 WHERE example ="
                   " (SELECT number FROM example WHERE text = 'I lost my wallet')")
        db.execute("UPDATE event SET weight = 2 WHERE example ="
                   " (SELECT id FROM example WHERE text = 'I lost my wallet')")
    db.close()
    assert doctor(state)[0] == {}  # votes, events and example agree
    found, _ = doctor(state, "--deep", code=REFUSED)
    assert "default: 1 examples" in found["head_differs"]["what"]
    _, summary = doctor(state, "--deep", "--repair")
    assert summary["repaired"]["images"] > 0
    d = Daemon(state, tmp_path / "log").start()
    d.settle().stop()
    found, summary = doctor(state, "--deep")
    assert found == {} and summary["models"] == 2


@pytest.mark.parametrize("how", ["gone", "another"])
def test_an_example_too_many_or_too_few(how, state):
    """The journal is sound, and the image is of another history."""
    example = "(SELECT id FROM example WHERE text = 'I lost my wallet')"
    if how == "gone":
        run_sql(state, "PRAGMA foreign_keys=ON", f"DELETE FROM event WHERE example = {example}",
                "DELETE FROM example WHERE text = 'I lost my wallet'")
    else:
        run_sql(state, f"UPDATE event SET example = x'{'ab' * 16}' WHERE example = {example}",
                f"UPDATE example SET id = x'{'ab' * 16}' WHERE text = 'I lost my wallet'")
    assert doctor(state)[0] == {}
    found, _ = doctor(state, "--deep", code=REFUSED)
    assert list(found) == ["head_differs"] and "1 examples" in found["head_differs"]["what"]


@pytest.mark.sanitizer
def test_beside_a_daemon_at_work(state, tmp_path):
    """No false alarm while everything moves, and no repair."""
    d = Daemon(state, tmp_path / "log").start()
    try:
        done = threading.Event()

        def work():
            i = 0
            while not done.is_set():
                d.teach([(f"text {i % 20} {k}", "ab"[(i // 20 + k) % 2]) for k in range(20)],
                        wait="durable")
                i += 1

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(4):
                found, summary = doctor(state, "--deep")
                assert found == {} and summary["daemon"]
        finally:
            done.set()
            thread.join()
        err = doctor(state, "--repair", code=USAGE)
        assert "nothing was repaired" in err and "learnd is using" in err
    finally:
        d.stop()
    assert doctor(state, "--deep")[0] == {}


def test_the_daemon_is_asked(state, tmp_path):
    """Of the texts that it has learned: does it see them as its heads do?"""
    d = Daemon(state, tmp_path / "log").start()
    try:
        out, _ = ctl("doctor", "--deep", "--json", "--state", state, daemon=d)
        assert json.loads(out)["asked"] > 16
        out, _ = ctl("doctor", "--deep", "--json", "--state", state, "--url",
                     "http://127.0.0.1:1")  # nobody there: the folder is sound all the same
        assert json.loads(out)["asked"] == 0
        with sqlite3.connect(state / "learnd.db") as db:
            other = db.execute("SELECT data FROM embedding WHERE encoder = 1 LIMIT 1").fetchone()[0]
            db.execute("UPDATE embedding SET data = ? WHERE encoder = 1", (other,))
        db.close()
        out, _ = ctl("doctor", "--deep", "--json", "--state", state, daemon=d, code=REFUSED)
        assert {"daemon_differs", "head_differs"} <= {json.loads(x).get("code")
                                                      for x in out.splitlines()}
    finally:
        d.stop()


def test_a_killed_daemon_leaves_a_sound_folder(state, tmp_path):
    """Its log is read, and left where it is."""
    d = Daemon(state, tmp_path / "log").start()
    d.teach([(f"text {i}", "ab"[i % 2]) for i in range(50)])
    d.kill9()
    log = (state / "learnd.db-wal").read_bytes()
    assert log
    found, summary = doctor(state, "--deep")
    assert found == {} and not summary["daemon"]
    assert (state / "learnd.db-wal").read_bytes() == log


def test_a_large_log(state):
    with open(state / "learnd.db-wal", "wb") as f:
        f.truncate(300 << 20)
    assert list(doctor(state, code=REFUSED)[0]) == ["wal_large"]


def test_little_room(state, small_disk):  # noqa: F811
    small = copy_of(state, small_disk("32m") / "state")
    assert list(doctor(small, code=REFUSED)[0]) == ["disk_low"]


def test_another_owner(state):
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: only root gives files away")
    os.chown(state / "learnd.db", 65534, 65534)
    assert list(doctor(state, code=REFUSED)[0]) == ["owner"]


def test_what_cannot_be_checked(state, tmp_path):
    assert "nowhere" in doctor(tmp_path / "nowhere", code=USAGE)
    (tmp_path / "empty").mkdir()
    assert "learnd.db" in doctor(tmp_path / "empty", code=USAGE)
    run_sql(state, "PRAGMA user_version=1000")
    assert "version 1000" in doctor(state, code=USAGE)
    run_sql(state, "PRAGMA user_version=1")
    assert "start the daemon once" in doctor(state, code=USAGE)
    _, err = ctl("doctor", state, code=USAGE)
    assert "usage: learnctl doctor" in err
    _, err = ctl("doctor", "--find", "abc", "--state", state, code=USAGE)
    assert "4 bytes" in err
    _, err = ctl("doctor", "--find", os.fsdecode(b"\xff\xfe\xfd\xfc"), "--state", state, code=USAGE)
    assert "UTF-8" in err


# ---- the proof of an erasure

CAFE = "Caf\u00e9 Cr\u00e8me"


def traces(state, text, code=OK):
    out, _ = ctl("doctor", "--find", text, "--state", state, "--json", code=code)
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]["traces"] == len(rows) - 1 and rows[-1]["files"] > 2
    return {(row["file"].split("/")[0].split("-")[0], row["form"]) for row in rows[:-1]}


def test_an_erased_text_is_in_no_byte(make_daemon):
    d = make_daemon().start()
    d.teach(LESSONS)
    d.teach([{"text": SECRET, "label": "lost", "annotator": "ann"},
             {"text": "a question", "text_pair": SECRET, "label": "card"}])
    d.teach([(f"card number {i}", "card") for i in range(20)])
    ctl("train", "steps_max=3", "--force", "--watch", daemon=d)  # its materials hold texts' traces
    d.restart()  # an image holds the embedding
    d.ask(SECRET)
    found = traces(d.state, SECRET, code=REFUSED)
    assert ("learnd.db", "text") in found and ("heads", "example") in found
    out, _ = ctl("erase", "--text", SECRET, "--yes", "--proof", "--state", d.state, daemon=d)
    assert "2 examples" in out and "0 traces" in out
    assert traces(d.state, SECRET) == set()
    d.restart()
    assert traces(d.state, SECRET) == set()


@pytest.mark.parametrize("form,content", [
    ("utf-16-le", SECRET.encode("utf-16-le")), ("utf-16-be", SECRET.encode("utf-16-be")),
    ("json", b'a \\"quoted\\"\\nline'), ("plain", b"cafe creme"),
    ("decomposed", unicodedata.normalize("NFD", CAFE).encode()), ("piece", None)],
                         ids=["utf-16-le", "utf-16-be", "json", "plain", "decomposed", "piece"])
def test_every_form_is_looked_for(form, content, state):
    text = {"json": 'a "quoted"\nline', "plain": CAFE, "decomposed": CAFE,
            "piece": "".join(chr(97 + i * i % 26) for i in range(64 * 20)) + "!"}.get(form, SECRET)
    if form == "piece":
        content = text.encode()[64 * 3:64 * 4]
    assert traces(state, text) == set()
    pad = os.urandom((1 << 20) - 7)  # across the pieces in which a file is read
    (state / "encoders" / "1" / "odd").write_bytes(pad + content + b"rest")
    assert ("encoders", form) in traces(state, text, code=REFUSED)
