"""What is installed; and the package under a real systemd, booted for the purpose (booted.py):
installed, started, worked, hung, reloaded, crashed, purged. That skips, loudly, where none can be
booted."""
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from booted import Booted, Unbootable
from learnd_process import ROOT, TINY, binary, environment, sanitized
from service_manager import Frozen, threads

ENCODER = "/var/cache/learnd/all-MiniLM-L6-v2"
ASK = ["curl", "-s", "--max-time", "60"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The .deb of the build under test."""
    if sanitized():
        pytest.skip("the package is of the plain build")
    done = subprocess.run(["make", "-s", "deb", f"BUILD={binary().parent.relative_to(ROOT)}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = ROOT / done.stdout.strip().splitlines()[-1]
    return shutil.copy(made, tmp_path_factory.mktemp("package") / "learnd.deb")


@pytest.fixture(scope="module")
def machine(tmp_path_factory, package):
    try:
        with Booted(tmp_path_factory.mktemp("machine")) as machine:
            shutil.copy(package, machine.results / "learnd.deb")
            machine.since_us = 0
            yield machine
    except Unbootable as why:
        pytest.skip(f"SKIPPED: no systemd can be booted here: {why}")


def give_encoder(machine, source=TINY, to=ENCODER):
    shutil.copytree(source, machine.results / "encoder", dirs_exist_ok=True)
    machine.shell(f"cp -r /results/encoder {to} && chmod -R a+rX {to}")


@pytest.fixture
def installed(machine):
    """As after installing, with the tiny encoder where the unit looks for it; not started."""
    if machine.run("dpkg", "-s", "learnd", check=False).returncode != 0:
        machine.run("dpkg", "-i", "/results/learnd.deb")
        machine.shell("sed -i 's/^drain-grace/# drain-grace/' /etc/learnd/learnd.conf &&"
                      "cp /etc/learnd/learnd.conf /results/learnd.conf")
        give_encoder(machine)
    machine.since_us = time.time() * 1e6
    yield machine
    machine.shell("""
        systemctl stop learnd.socket learnd
        rm -rf /etc/systemd/system/learnd.service.d /etc/learnd/admin.key /var/lib/learnd
        cp /results/learnd.conf /etc/learnd/learnd.conf
        systemctl daemon-reload
        systemctl reset-failed""")


def dropin(machine, text):
    folder = "/etc/systemd/system/learnd.service.d"
    (machine.results / "dropin").write_text(text)
    machine.shell(f"mkdir -p {folder} && cp /results/dropin {folder}/test.conf")
    machine.run("systemctl", "daemon-reload")


def post(machine, path, body):
    return json.loads(machine.run(*ASK, "-H", "Content-Type: application/json", "-d",
                                  json.dumps(body), f"http://127.0.0.1:8080{path}").stdout)


def lines(machine):
    """Of the daemon in this test, from the journal: dicts."""
    all_of_them = [json.loads(line) for line in machine.journal("learnd").splitlines()]
    return [line for line in all_of_them if line.get("_COMM") != "systemd" and
            int(line["__REALTIME_TIMESTAMP"]) >= machine.since_us]


def wait(machine, what, until, seconds=60):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"not {what} within {seconds} s:\n" + machine.run(
            "systemctl", "status", "--no-pager", "learnd", check=False).stdout
        time.sleep(0.02)


# ---- what is installed

def test_make_install(tmp_path):
    """To another prefix: the unit names it, and a configuration that is there stays."""
    if sanitized():
        pytest.skip("what is installed is the plain build")
    conf = tmp_path / "etc" / "learnd" / "learnd.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("# mine\n")
    subprocess.run(["make", "-s", "install", f"BUILD={binary().parent.relative_to(ROOT)}",
                    f"DESTDIR={tmp_path}", "PREFIX=/opt/learnd"], cwd=ROOT, check=True,
                   capture_output=True, timeout=600)
    to = tmp_path / "opt" / "learnd"
    unit = (to / "lib/systemd/system/learnd.service").read_text()
    assert "\nExecStart=/opt/learnd/bin/learnd --config /etc/learnd/learnd.conf\n" in unit
    assert conf.read_text() == "# mine\n"
    for path in ("bin/learnctl", "sbin/learnd-fetch-model", "lib/learnd/model.sh",
                 "lib/systemd/system/learnd.socket", "lib/sysusers.d/learnd.conf",
                 "lib/tmpfiles.d/learnd.conf"):
        assert (to / path).exists(), path
    for page in (ROOT / "deploy").glob("man/*.[1-8]"):
        assert (to / f"share/man/man{page.suffix[1:]}" / page.name).exists()
    assert subprocess.run([to / "bin/learnd", "--version"], check=True,
                          capture_output=True).stdout.startswith(b"learnd ")


def test_the_package_unpacked(tmp_path, make_daemon, package):
    """Where no package may be installed: what is in it starts, and says what it needs."""
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "root"], check=True)
    says = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True,
                          text=True).stdout
    for library in ("libuv1", "libsqlite3-0", "libdnnl", "libopenblas", "libcurl"):
        assert re.search(rf"^Depends: .*{library}", says, re.M), says
    inside = tmp_path / "root" / "usr" / "bin" / "learnd"
    daemon = make_daemon(args=["--config", tmp_path / "root/etc/learnd/learnd.conf"])
    with open(daemon.log, "wb") as out:
        daemon.process = subprocess.Popen(
            [inside, "--state", daemon.state, "--encoder", TINY, "--listen", "127.0.0.1:0",
             "--drain-grace", "0"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=environment())
    daemon.url = daemon.wait_line(r"event=listening address=(http://\S+)").group(1)
    said = subprocess.run([inside.parent / "learnctl", "--url", daemon.url, "status"], check=True,
                          capture_output=True, text=True, timeout=60).stdout
    assert "ready" in said


# ---- under systemd

def test_a_package_from_install_to_purge(machine):
    said = machine.run("dpkg", "-i", "/results/learnd.deb").stdout
    assert f"learnd is not started: {ENCODER}/config.json: No such file" in said
    assert "learnd-fetch-model" in said
    assert machine.run("systemctl", "is-enabled", "learnd").stdout.strip() == "enabled"
    assert machine.run("systemctl", "is-active", "learnd", check=False).stdout.strip() == "inactive"
    # With the encoder there, installing it (again) starts it; READY is true when systemctl returns.
    give_encoder(machine)
    machine.run("dpkg", "-i", "/results/learnd.deb")
    assert machine.show("learnd", "ActiveState") == "active"
    answer = post(machine, "/v1/classify", {"inputs": "hello"})
    assert answer["model"] == "default"
    taught = post(machine, "/v1/feedback", {"items": [{"text": "a b", "label": "x"}]})
    assert len(taught["accepted"]) == 1
    assert re.fullmatch(r"learnd \S+: 0 texts queued, \d connections",
                        machine.show("learnd", "StatusText"))
    assert machine.shell("stat -c '%U %a' /var/lib/learnd/learnd.db") == "learnd 600\n"
    assert machine.shell("cat /proc/$(systemctl show -P MainPID learnd)/comm") == "learnd\n"
    assert machine.shell("stat -c %U /proc/$(systemctl show -P MainPID learnd)") == "learnd\n"
    # The journal has its own times; priorities are ours.
    log = lines(machine)
    assert all(re.match(r"level=(info|warn|error) at=", line["MESSAGE"]) for line in log), log
    priority = {"info": "6", "warn": "4", "error": "3"}
    for line in log:
        assert line["PRIORITY"] == priority[line["MESSAGE"].split()[0][6:]], line
    # An upgrade keeps what was taught, the configuration, and whether it is to run.
    machine.shell("echo '# mine' >>/etc/learnd/learnd.conf")
    machine.run("systemctl", "disable", "--now", "learnd")
    machine.run("dpkg", "-i", "/results/learnd.deb")
    assert machine.show("learnd", "ActiveState") == "inactive"
    assert machine.shell("tail -1 /etc/learnd/learnd.conf") == "# mine\n"
    machine.run("systemctl", "start", "learnd")
    assert post(machine, "/v1/classify", {"inputs": "a b"})["results"][0]["label"] == "x"
    machine.run("dpkg", "-r", "learnd")
    assert machine.shell("ls /usr/bin/learnd* /var/lib/learnd/learnd.db /etc/learnd", check=False) \
        .count("learnd.db") == 1, "what was taught stays"
    machine.run("dpkg", "--purge", "learnd")
    left = machine.shell("ls -d /usr/bin/learnd* /usr/lib/learnd /var/lib/learnd /var/cache/learnd "
                         "/etc/learnd /etc/systemd/system/*/learnd* 2>/dev/null", check=False)
    assert left == ""


def exposure(text):
    return float(re.search(r"Overall exposure level.*?: ([0-9.]+)", text).group(1))


def test_exposure(installed):
    """systemd-analyze security: of the file, and of the unit as it runs."""
    installed.run("systemctl", "start", "learnd")
    said = installed.run("systemd-analyze", "security", "--no-pager", "learnd").stdout
    assert exposure(said) <= 1.5, said


def test_the_key_that_systemd_hands_over(installed):
    """/etc/learnd/admin.key, which only root can read; in every other test here there is none."""
    key = "an-admins-key-of-some-length-0123456789"
    installed.shell(f"umask 077; echo {key} >/etc/learnd/admin.key")
    installed.run("systemctl", "start", "learnd")
    me = [*ASK, "http://127.0.0.1:8080/v1/me"]
    assert '"unauthorized"' in installed.run(*me).stdout
    assert '"admin"' in installed.run(*me, "-H", f"Authorization: Bearer {key}").stdout
    assert "ready" in installed.run(*ASK, "http://127.0.0.1:8080/health/ready").stdout
    installed.shell("echo short >/etc/learnd/admin.key")
    assert installed.run("systemctl", "restart", "learnd", check=False).returncode != 0
    assert any("admin-key-file /run/credentials/learnd.service/admin-key: expected one line" in
               line["MESSAGE"] for line in lines(installed))


def test_reload_and_stop(installed):
    installed.run("systemctl", "start", "learnd")
    installed.shell("echo 'lanes = 1' >>/etc/learnd/learnd.conf")
    installed.run("systemctl", "reload", "learnd")
    wait(installed, "reloaded", lambda: any("at=reload event=done" in line["MESSAGE"]
                                            for line in lines(installed)))
    assert any("event=restart_needed setting=lanes" in line["MESSAGE"]
               for line in lines(installed))
    assert installed.show("learnd", "ActiveState") == "active"
    installed.run("systemctl", "restart", "learnd")
    assert '"lanes":1' in installed.run(*ASK, "http://127.0.0.1:8080/v1/info").stdout
    installed.run("systemctl", "stop", "learnd")
    assert installed.show("learnd", "Result") == "success"
    assert installed.show("learnd", "ExecMainStatus") == "0"
    # A wrong setting is said once, and not tried again.
    installed.shell("echo 'lnes = 1' >>/etc/learnd/learnd.conf")
    assert installed.run("systemctl", "start", "learnd", check=False).returncode != 0
    assert installed.show("learnd", "ActiveState") == "failed"
    assert installed.show("learnd", "NRestarts") == "0"
    assert "unknown setting lnes (did you mean lanes?)" in lines(installed)[-1]["MESSAGE"]


def test_a_crash_is_started_again(installed):
    dropin(installed, "[Service]\nRestartSec=0\n")
    installed.run("systemctl", "start", "learnd")
    post(installed, "/v1/feedback", {"items": [{"text": "a b", "label": "x"}], "wait": "applied"})
    installed.run("systemctl", "kill", "-s", "SEGV", "learnd")
    wait(installed, "started again", lambda: installed.show("learnd", "NRestarts") == "1" and
         installed.show("learnd", "ActiveState") == "active")
    assert post(installed, "/v1/classify", {"inputs": "a b"})["results"][0]["label"] == "x"


@pytest.mark.parametrize("thread", ["loop", "keeper"])
def test_a_hang_is_ended_by_the_watchdog(installed, thread):
    """systemd sees that the food stops, ends the process and starts it again."""
    dropin(installed, "[Service]\nWatchdogSec=1\nRestartSec=0\n")
    installed.run("systemctl", "start", "learnd")
    (pid, ) = [int(p) for p in os.listdir("/proc") if p.isdigit() and is_daemon(installed, p)]
    (one, ) = threads(pid, thread)
    with Frozen(one):
        if thread == "keeper":
            installed.run(*ASK[:2], "--max-time", "0.2", "http://127.0.0.1:8080/health/ready",
                          check=False)
        wait(installed, "ended", lambda: installed.show("learnd", "Result") == "watchdog")
    wait(installed, "started again", lambda: installed.show("learnd", "NRestarts") == "1" and
         installed.show("learnd", "ActiveState") == "active")
    assert any(f"stuck={thread}" in line["MESSAGE"] for line in lines(installed))
    post(installed, "/v1/classify", {"inputs": "it serves"})


def is_daemon(machine, pid):
    """Is it the main process of the machine's unit, by its number out here?"""
    try:
        theirs, its = (os.readlink(f"/proc/{p}/ns/cgroup") for p in (machine.pid, pid))
        with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
            return its == theirs and comm.read().strip() == "learnd"
    except OSError:
        return False


def test_socket_activation(installed):
    """The first one who comes starts the daemon; a restart refuses nobody; the socket file lets the
    group in, nobody else."""
    installed.run("systemctl", "start", "learnd.socket")
    assert installed.show("learnd", "ActiveState") == "inactive"
    assert "ready" in installed.run(*ASK, "http://127.0.0.1:8080/health/ready").stdout
    assert installed.show("learnd", "ActiveState") == "active"
    assert installed.shell("stat -c '%U %G %a' /run/learnd.sock") == "learnd learnd 660\n"
    said = installed.run(*ASK, "--unix-socket", "/run/learnd.sock", "http://x/v1/info").stdout
    assert json.loads(said)["loops"] == 1
    refused = installed.shell("""
        touch /tmp/go
        (while [ -e /tmp/go ]; do
            curl -s -o /dev/null --max-time 60 http://127.0.0.1:8080/health/live || echo refused
        done >/tmp/refused) &
        for i in 1 2 3; do systemctl restart learnd; done
        rm /tmp/go; wait; grep -c refused /tmp/refused""", check=False)
    assert refused.strip() == "0"
    installed.run("systemctl", "stop", "learnd")
    assert installed.shell("ls /run/learnd.sock") == "/run/learnd.sock\n"


# ---- everything that it does, under the unit's hardening

WORK = r"""
set -e
learnctl import /results/texts.jsonl >/dev/null
learnctl train default --epochs 2 --force --watch >/dev/null
learnctl classify 'text 4 of x' --json
learnctl import-encoder default /var/cache/learnd/other --force --watch >/dev/null
learnctl rollback default 0 >/dev/null
learnctl export >/dev/null
learnctl export-encoder default /tmp/out >/dev/null
learnctl status >/dev/null
learnctl backup /tmp/backup --state /var/lib/learnd >/dev/null
curl -s http://127.0.0.1:8080/metrics >/dev/null
curl -s --unix-socket /run/learnd/s http://x/health/ready >/dev/null
systemctl reload learnd
learnctl erase --text 'text 4 of x' --yes >/dev/null
"""


def prepare_work(machine):
    texts = "".join(json.dumps({"text": f"text {i} of {'xy'[i % 2]}", "label": "xy"[i % 2]}) + "\n"
                    for i in range(80))
    (machine.results / "texts.jsonl").write_text(texts)
    give_encoder(machine, to="/var/cache/learnd/other")
    # Other weights: the last byte of an embedding table's number, which changes next to nothing.
    machine.shell("cd /var/cache/learnd/other; size=$(stat -c %s model.safetensors);"
                  "printf '\\007' | dd of=model.safetensors bs=1 seek=$((size - 2)) conv=notrunc "
                  "status=none")
    machine.shell("printf 'listen = 127.0.0.1:8080\\nlisten = unix:/run/learnd/s\\n' "
                  ">>/etc/learnd/learnd.conf")


def work(machine):
    said = machine.shell(WORK)
    (answer, ) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert answer["label"] == "x", said


def test_all_its_work_under_the_unit(installed):
    prepare_work(installed)
    installed.run("systemctl", "start", "learnd")
    work(installed)
    installed.run("systemctl", "stop", "learnd")
    assert installed.show("learnd", "Result") == "success"
    log = [line["MESSAGE"] for line in lines(installed)]
    assert not [line for line in log if "level=error" in line or "not permitted" in line], log
    assert any("at=trainer event=accepted" in line for line in log), log
