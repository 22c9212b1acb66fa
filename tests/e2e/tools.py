"""What deploy/test_tools.sh put into the cache for tests. Each skips loudly where it is not."""
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "learnd" / "test-tools"


def tool(*parts):
    path = FOLDER.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"SKIPPED: no {path}: deploy/test_tools.sh makes it")
    return str(path)


def promtool():
    return tool("promtool")


def selenium():
    """A folder of Python packages, for sys.path."""
    tool("selenium", "made-of")
    return tool("selenium")


def axe():
    """The text of axe-core."""
    return Path(tool("axe.min.js")).read_text()


def python():
    """Of the environment that has tensorboard and schemathesis."""
    tool("venv", "made-of")  # else it is half made
    return tool("venv", "bin", "python")


def schemathesis():
    tool("venv", "made-of")
    return tool("venv", "bin", "schemathesis")
