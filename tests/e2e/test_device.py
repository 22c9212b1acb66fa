"""A daemon on a loadable backend: the fake device of tests/device, which is the CPU with its memory
held apart. What it answers and trains is the CPU's to the bit; and whatever befalls the device, no
answer is wrong and the daemon serves on.
"""
import hashlib
import re
import threading
from pathlib import Path

import pytest
import requests

from event_stream import EventStream
from learnd_process import binary, problem_of, run, sanitized
from test_runs import ctl, ended, live, texts, until

PLUGIN = Path(binary()).parent / "tests" / "device" / "fake_device.so"
ASKED = ["cat and dog", "my card", "sun and rain", "pay the bank", "x1 x2", "bird"]
RUN = {"steps_max": 6, "force": True, "seed": 7}
ROOM = 1 << 30


class Device:
    """The control file of a fake device: what it is told holds from the next call on."""

    def __init__(self, folder):
        self.path = Path(folder) / "device"
        self.well()

    def tell(self, *lines):
        new = self.path.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in lines))
        new.rename(self.path)

    def well(self):
        self.tell(f"total {ROOM}")


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path)


@pytest.fixture
def on_device(make_daemon, device):
    def start(name="fake", args=()):
        assert PLUGIN.exists(), f"{PLUGIN} is not there: make tests"
        return make_daemon(name, args=["--device", f"plugin:{PLUGIN}", *args],
                           env={"LEARND_FAKE_DEVICE": str(device.path)}).start()
    return start


def page(daemon):
    lines = daemon.call("GET", "/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")


def held(daemon):
    return daemon.get("/v1/info")["device_state"]["memory_used_bytes"]


def answers(daemon, **fields):
    """All that is said of the texts but for whose answer it is, and when."""
    rows = daemon.ask(ASKED, **fields)["results"]
    return [{k: v for k, v in row.items() if k != "request_id"} for row in rows]


def embeddings(daemon):
    return daemon.post("/v1/embed", {"inputs": ASKED})["embeddings"]


def taught(daemon, n=120):
    daemon.teach(list(texts(n)))
    return daemon.settle()


def weights(daemon, encoder):
    path = daemon.state / "encoders" / str(encoder) / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checks(daemon):
    ready = daemon.get("/health/ready")
    return ready["status"], {c["name"]: c for c in ready["checks"]}


# ---- as on the CPU

def test_a_device_answers_and_trains_as_the_cpu_does(make_daemon, on_device):
    cpu, fake = make_daemon("cpu", args=["--device", "cpu"]).start(), on_device()
    info = fake.get("/v1/info")
    assert (info["backend"], info["device"], info["lanes"]) == ("fake", "fake:0", 2)
    assert info["device_state"]["memory_total_bytes"] == ROOM and held(fake) > 0
    assert info["device_state"]["why"] is None and not info["device_state"]["degraded"]
    assert cpu.get("/v1/info")["device_state"] == {
        "degraded": False, "why": None, "memory_used_bytes": 0, "memory_total_bytes": 0}
    assert embeddings(fake) == embeddings(cpu)
    for daemon in (cpu, fake):
        taught(daemon)
    assert answers(fake) == answers(cpu)
    for number, settings in enumerate((RUN, {**RUN, "lora": {"rank": 4}}), 1):
        rows = []
        for daemon in (cpu, fake):
            rows.append(ended(daemon, daemon.post("/v1/models/default/runs", settings, 202)["run"]))
            live(daemon, number)
            daemon.settle()
        assert [r["progress"]["device"] for r in rows] == ["cpu", "fake:0"]
        assert rows[0]["verdict"] == rows[1]["verdict"]
        assert weights(fake, number) == weights(cpu, number)
        assert answers(fake) == answers(cpu)
    said = page(fake)
    assert said['learnd_device{name="fake:0"}'] == "1" and said["learnd_device_degraded"] == "0"
    assert float(said["learnd_device_memory_used_bytes"]) == held(fake)
    assert float(said["learnd_device_clock_hertz"]) > 0
    assert f"of {ROOM >> 20} MiB held" in ctl(fake, "status")
    # Two runs, two swaps, and everything from what was taken at the start.
    assert said["learnd_device_memory_requests_total"] == "0"


def test_a_run_goes_on_after_a_restart_and_ends_in_the_cpu_s_bits(make_daemon, on_device):
    cpu, fake = make_daemon("cpu", args=["--device", "cpu"]).start(), on_device()
    settings = {"steps_max": 400, "epochs": 100, "batch": 4, "seed": 3, "force": True}
    for daemon in (cpu, fake):
        taught(daemon, 60)
        before = page(daemon)["learnd_run_steps_total"]
        asked = daemon.post("/v1/models/default/runs", settings, 202)["run"]
        if daemon is fake:
            until(lambda: page(fake)["learnd_run_steps_total"] != before)
            fake.restart()
        row = ended(daemon, asked)
        assert row["state"] == "accepted" and row["progress"]["resumed"] == (daemon is fake), row
    assert weights(fake, 1) == weights(cpu, 1)


def test_swaps_keep_the_memory_of_the_device_flat(on_device):
    fake = taught(on_device(), 60)
    ended(fake, fake.post("/v1/models/default/runs", RUN, 202)["run"])
    live(fake, 1)
    seen = set()
    for swap in range(30):
        fake.post("/v1/models/default/rollback", {"encoder": swap % 2}, None)
        live(fake, swap % 2)
        answers(fake)
        if swap >= 4:
            seen.add(held(fake))
    assert max(seen) - min(seen) <= 200_000, sorted(seen)  # the base stays; one comes and goes
    assert page(fake)["learnd_device_failures_total"] == "0"


# ---- a start without it

@pytest.mark.parametrize("choice, lines, says", [
    ("cuda:5", [], ""),  # no backend, no driver, or not so many
    ("plugin:{}:9", [], "there is no fake device 9"),
    ("plugin:{}", ["refuse 1"], "there is no fake device 0"),
    ("plugin:{}", ["total 2000"], "the weights need 0.1 MiB on fake:0, which has 0.0 MiB"),
    ("plugin:{}", ["total 100000"], "MiB for three encoders beside the base"),
    pytest.param("plugin:{}", ["total 300000"], "no room for 2 lanes beside the encoders",
                 marks=pytest.mark.sanitizer),
    ("plugin:/nowhere/x.so", [], "/nowhere/x.so"),
])
def test_a_start_goes_to_the_cpu_and_says_why(make_daemon, device, choice, lines, says):
    device.tell(*lines)
    daemon = make_daemon(args=["--device", choice.format(PLUGIN)],
                         env={"LEARND_FAKE_DEVICE": str(device.path)}).start()
    told = [line for line in daemon.text().splitlines() if "at=device" in line]
    assert len(told) == 1 and says in told[0] and "level=warn" in told[0], told
    info = daemon.get("/v1/info")
    assert info["device"] == "cpu" and info["device_state"]["degraded"]
    assert says in info["device_state"]["why"]
    status, parts = checks(daemon)
    assert status == "degraded" and not parts["device"]["ok"] and says in parts["device"]["detail"]
    assert len(embeddings(daemon)) == len(ASKED)
    assert "DEGRADED: " in ctl(daemon, "status")


def test_auto_without_a_gpu_is_the_cpu_and_all_is_well(make_daemon):
    daemon = make_daemon().start()
    if daemon.get("/v1/info")["device"] != "cpu":
        pytest.skip("this machine has a GPU, and its backend is built")
    told = [line for line in daemon.text().splitlines() if "at=device" in line]
    assert len(told) == 1 and "level=info" in told[0] and "the CPU is used: " in told[0], told
    assert checks(daemon)[0] == "ready"


def test_a_choice_is_checked():
    for choice in ("cuda", "cuda:x", "gpu", "plugin:"):
        done = run("--device", choice, "--check-config")
        assert done.returncode == 2 and "auto, cpu, cuda:N or plugin:PATH" in done.stderr


# ---- faults while it serves

@pytest.mark.sanitizer
def test_a_batch_that_fails_is_an_error_and_the_next_is_right(on_device, device):
    fake = on_device()
    right = embeddings(fake)
    with EventStream(fake, "types=warning") as stream:
        device.tell(f"total {ROOM}", "fail 1", "dies 1")
        answer = fake.call("POST", "/v1/embed", {"inputs": ASKED})
        assert problem_of(answer)[:2] == (503, "device_failed")
        assert int(answer.headers["Retry-After"]) >= 1
        assert embeddings(fake) == right
        assert next(stream).data["code"] == "device_failed"
    said = page(fake)
    assert said["learnd_device_failures_total"] == "1" and said["learnd_device_losses_total"] == "0"
    assert said['learnd_refusals_total{code="device_failed"}'] == "1"
    assert checks(fake)[0] == "ready"


@pytest.mark.parametrize("line", [
    "lost 1", pytest.param("fail 100000", marks=pytest.mark.sanitizer)])
def test_a_device_that_is_lost_under_traffic(on_device, device, line):
    """Every answer is right or 503; in the end all are right, and learning has missed nothing."""
    fake = taught(on_device(), 60)
    right, wrong, codes, stop = answers(fake), [], [], threading.Event()

    def ask():
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                answer = session.post(fake.url + "/v1/classify", json={"inputs": ASKED}, timeout=60)
                codes.append(answer.status_code)
                rows = answer.json().get("results", [])
                if answer.status_code == 200 and right != [
                        {k: v for k, v in row.items() if k != "request_id"} for row in rows]:
                    wrong.append(rows)
                elif answer.status_code != 200 and answer.json()["code"] != "device_failed":
                    wrong.append(answer.json())

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        until(lambda: len(codes) > 20)
        device.tell(f"total {ROOM}", line)
        until(lambda: fake.get("/v1/info")["device"] == "cpu")
        at = len(codes)
        until(lambda: len(codes) > at + 20)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert wrong == [] and set(codes) == {200, 503}
    assert codes[at:].count(503) <= len(clients)  # what was under way
    status, parts = checks(fake)
    assert status == "degraded" and "fake:0 is not used any more" in parts["device"]["detail"]
    assert page(fake)["learnd_device_losses_total"] == "1"
    fake.teach([("my dog and cat", "animals")])
    cpu_row = ended(fake, fake.post("/v1/models/default/runs", RUN, 202)["run"])
    assert cpu_row["state"] == "accepted" and cpu_row["progress"]["device"] == "cpu"
    device.well()
    fake.restart()
    assert fake.get("/v1/info")["device"] == "fake:0" and checks(fake)[0] == "ready"


# ---- faults while it trains

def failed_run(daemon, device, *lines):
    """A run during which this happens to the device, once it takes steps."""
    before = page(daemon)["learnd_run_steps_total"]
    settings = {"steps_max": 100_000, "epochs": 100, "batch": 4}
    row = daemon.post("/v1/models/default/runs", settings, 202)["run"]
    until(lambda: page(daemon)["learnd_run_steps_total"] != before)
    device.tell(f"total {ROOM}", *lines)
    return ended(daemon, row)


@pytest.mark.sanitizer
def test_a_device_that_fails_a_run_serves_on(on_device, device):
    fake = taught(on_device(), 60)
    right = answers(fake)
    row = failed_run(fake, device, "fail_training 1")
    assert row["state"] == "failed" and "an operation of the device failed" in row["reason"]
    assert fake.get("/v1/info")["device"] == "fake:0" and answers(fake) == right
    assert page(fake)["learnd_device_training_failures_total"] == "1"
    device.well()
    row = failed_run(fake, device, "lost 1")
    assert row["state"] == "failed" and "the device is lost" in row["reason"]
    assert fake.get("/v1/info")["device"] == "cpu" and answers(fake) == right
    assert checks(fake)[0] == "degraded"


def test_a_run_that_needs_more_than_it_was_given_asks_for_it(on_device, device):
    """Room for small pieces only: it trains on the device all the same."""
    device.tell(f"total {ROOM}", "runs 1600000")
    fake = taught(on_device(), 60)
    row = ended(fake, fake.post("/v1/models/default/runs", RUN, 202)["run"])
    assert row["state"] == "accepted" and row["progress"]["device"] == "fake:0"


def test_a_run_that_has_no_room_trains_on_the_cpu(on_device, device):
    device.tell(f"total {ROOM}", "runs 1000")
    fake = taught(on_device(), 60)
    assert re.search(r"device_training_on_cpu.*fake:0 has no \d+\.\d MiB for a run", fake.text())
    device.well()  # what there is later is not for runs any more
    run = fake.post("/v1/models/default/runs", {**RUN, "force": False}, 202)["run"]
    row = ended(fake, run)
    assert page(fake)["learnd_device_memory_requests_total"] == "0"
    assert row["state"] in ("accepted", "refused") and row["progress"]["device"] == "cpu"
    assert fake.get("/v1/info")["device"] == "fake:0" and checks(fake)[0] == "ready"


# ---- giving way

@pytest.mark.sanitizer
def test_a_run_gives_way_to_requests_and_finishes_when_they_end(make_daemon):
    daemon = make_daemon(args=["--train-yield-p99-ms", "1"]).start()
    taught(daemon, 40)
    stop, inputs = threading.Event(), ASKED * (2 if sanitized() else 40)

    def ask():
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                session.post(daemon.url + "/v1/embed", json={"inputs": inputs}, timeout=60)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        until(lambda: float(page(daemon).get("learnd_recent_p99_seconds", 0)) > 0.001)
        run = daemon.post("/v1/models/default/runs", {"steps_max": 6}, 202)["run"]
        row = until(lambda: (r := daemon.get(f"/v1/runs/{run}"))["progress"] and
                    r["progress"]["yields"] > 0 and r)
        assert row["state"] == "running" and row["step"] < row["steps"]
    finally:
        stop.set()
        for client in clients:
            client.join()
    row = ended(daemon, run)
    assert row["state"] in ("accepted", "refused") and row["step"] == row["steps"]
    assert row["progress"]["yields"] >= 1 and row["progress"]["yield_s"] > 0
    said = page(daemon)
    assert float(said["learnd_run_yields_total"]) >= 1
    assert float(said["learnd_run_yield_seconds_total"]) > 0
