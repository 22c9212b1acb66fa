"""A daemon on the CUDA backend: on the host, where the kernels run as fibers (tests/cuda) and only
their arithmetic is shown, and on a card where there is one.
"""
import threading
from pathlib import Path

import pytest
import requests

from learnd_process import binary
from test_runs import ended, texts

BUILD = Path(binary()).parent
SHIM = BUILD / "tests" / "cuda" / "shim-cuda.so"
LIBRARY = BUILD / "learnd-cuda.so"
ASKED = ["cat and dog", "my card", "sun and rain", "pay the bank", "x1 x2", "bird"]


def card():
    return any(Path("/dev").glob("nvidia[0-9]*"))


@pytest.fixture(params=["shim", "cuda:0"])
def on_device(request, make_daemon):
    if request.param == "cuda:0" and not card():
        pytest.skip("no NVIDIA GPU on this machine")
    if request.param == "cuda:0" and not LIBRARY.exists():
        pytest.skip("a GPU, but no learnd-cuda.so: make CUDA=1 (make gpu-check does)")
    choice = f"plugin:{SHIM}" if request.param == "shim" else request.param
    return make_daemon("device", args=["--device", choice]).start()


def embeddings(daemon):
    return daemon.post("/v1/embed", {"inputs": ASKED})["embeddings"]


def test_a_daemon_on_cuda_answers_as_the_cpu(on_device, make_daemon):
    """To the rounding of bf16; and the same text has the same bits whatever it comes with."""
    state = on_device.get("/v1/info")["device_state"]
    assert not state["degraded"], state
    there = embeddings(on_device)
    here = embeddings(make_daemon("cpu", args=["--device", "cpu"]).start())
    for a, b in zip(there, here):
        assert sum(x * y for x, y in zip(a, b)) > 0.9995
    for text, vector in zip(ASKED, there):
        assert on_device.post("/v1/embed", {"inputs": [text]})["embeddings"][0] == vector


def test_a_run_on_cuda_ends_while_it_serves(on_device):
    """Training and serving share the device: the run ends, and nothing that was asked failed."""
    on_device.teach(list(texts(60)))
    on_device.settle()
    answers, stop = [], threading.Event()

    def ask():
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                answers.append(session.post(on_device.url + "/v1/embed", json={"inputs": ASKED},
                                            timeout=60).status_code)

    client = threading.Thread(target=ask)
    client.start()
    try:
        run = on_device.post("/v1/models/default/runs",
                             {"steps_max": 6, "force": True, "seed": 7}, 202)["run"]
        row = ended(on_device, run)
    finally:
        stop.set()
        client.join()
    assert row["state"] in ("accepted", "refused"), row
    assert row["progress"]["device"] == "cuda:0"
    assert answers and set(answers) == {200}
    assert not on_device.get("/v1/info")["device_state"]["degraded"]
