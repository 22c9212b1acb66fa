"""Fixtures of the end-to-end tests; see learnd_process.py for what a Daemon can do.

    daemon        started, its state folder empty, with the tiny encoder of the tree. With
                  @pytest.mark.parametrize("daemon", [{..}], indirect=True): Daemon's arguments
    shared        one daemon for a whole file; `model` is a name of your own in it
    make_daemon   make_daemon(name="d", **Daemon's arguments) -> a Daemon that is not started yet
    minilm        the folder of the default encoder; skips where it was not fetched

Every daemon is stopped at the end, with exit status 0 and no sanitizer report, or its test fails.
"""
import itertools
import json

import pytest

import learnd_process
from contract import Contract
from learnd_process import ROOT, Daemon

_names = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def contract():
    """Every answer of every daemon is held against the contract."""
    Daemon.contract = Contract(json.loads((ROOT / "proto" / "openapi.json").read_text()))
    return Daemon.contract


@pytest.fixture
def make_daemon(tmp_path):
    made = []

    def make(name="d", **arguments):
        daemon = Daemon(tmp_path / name, tmp_path / f"{name}.log", **arguments)
        made.append(daemon)
        return daemon

    yield make
    stop_all(made)


def stop_all(daemons):
    """Stops every one of them, also when an earlier one fails its stop."""
    failed = []
    for daemon in daemons:
        try:
            daemon.stop()
        except AssertionError as error:
            failed.append(error)
        finally:
            daemon.kill9()
    if failed:
        raise failed[0]


@pytest.fixture
def daemon(make_daemon, request):
    return make_daemon(**getattr(request, "param", {})).start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    daemon = Daemon(folder / "state", folder / "log").start()
    yield daemon
    stop_all([daemon])


@pytest.fixture
def model(shared):
    """The name of a new, empty model in the shared daemon."""
    name = f"m{next(_names)}"
    shared.post("/v1/models", {"name": name}, expect=201)
    return name


@pytest.fixture(scope="session")
def minilm():
    folder = learnd_process.minilm()
    if folder is None:
        pytest.skip("SKIPPED: the default encoder is not there; deploy/model.sh fetches it")
    return folder
