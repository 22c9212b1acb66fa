"""The man pages: complete, up to date with the programs, and clean."""
import re
import shutil
import subprocess

import pytest

from learnd_process import ROOT, binary as learnd, run as run_learnd
from test_ctl import COMMANDS, run

MAN = ROOT / "deploy" / "man"
PAGES = ("learnctl.1", "learnd.8", "learnd.conf.5")


def test_up_to_date():
    """What update.py writes out of --help and learnd.conf is what stands there."""
    done = subprocess.run([MAN / "update.py", "--check", "--build", learnd().parent], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"run deploy/man/update.py: {done.stdout}"


def test_commands_and_flags():
    """Each command has its section, each flag its entry there; counted apart from update.py."""
    page = (MAN / "learnctl.1").read_text()
    names = re.findall(r"^  ([a-z][a-z-]+) +\S", run("--help")[0], re.M)
    assert set(COMMANDS) <= set(names)
    for name in names:
        section = re.search(rf"^\.Ss {name}\n(.*?)(?=^\.S[sh] )", page, re.M | re.S)
        assert section, f"{name} is not in learnctl.1"
        for flag in re.findall(r"^  (?:-\w, |    )--([a-z-]+)", run(name, "--help")[0], re.M):
            assert f"Fl -{flag}" in section[1], f"--{flag} of {name} is not in learnctl.1"
    for flag in re.findall(r"^  (?:-\w, |    )--([a-z-]+)", run("--help")[0], re.M):
        assert re.search(rf"^\.It .*Fl -{flag}\b", page, re.M), flag
    told = re.search(r"exit code: (.*)", run("--help")[0], re.S)[1]
    codes = re.findall(r"(?:^|; |;\n|\n)\s*(\d) ", told)
    assert re.findall(r"^\.It (\d)$", page, re.M) == codes == list("0123456")


def test_settings():
    """Each setting is a flag of --help, a line of learnd.conf, and in both pages."""
    known = set(re.findall(r'^    \{"([a-z0-9-]+)", ', (ROOT / "daemon/settings.c").read_text(), re.M))
    known -= {"config", "check-config", "help", "version"}
    assert {"state", "listen", "max-tokens"} <= known
    shown = set(re.findall(r"--([a-z0-9-]+)", run_learnd("--help").stdout))
    conf = set(re.findall(r"^(?:# )?([a-z0-9-]+) = ", (ROOT / "deploy/learnd.conf").read_text(), re.M))
    for name in sorted(known):
        assert name in shown, f"{name} is not in learnd --help"
        assert name in conf, f"{name} is not in deploy/learnd.conf"
        assert f".It Ic {name} No" in (MAN / "learnd.conf.5").read_text(), name
        assert re.search(rf"^\.It Fl -{name}\b", (MAN / "learnd.8").read_text(), re.M), name


@pytest.mark.parametrize("page", PAGES)
def test_clean(page):
    if shutil.which("mandoc") is None:
        pytest.skip("SKIPPED: mandoc is not there; deploy/deps.sh test installs it")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", MAN / page], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    # A page that is not installed here is no fault of the one that names it.
    found = [x for x in done.stdout.splitlines() if "referenced manual not found" not in x]
    assert not found, "\n".join(found)
    shown = subprocess.run(["mandoc", "-T", "utf8", MAN / page], text=True, stdout=subprocess.PIPE,
                           check=True).stdout
    assert "EXAMPLES" in re.sub(r".\x08", "", shown)
