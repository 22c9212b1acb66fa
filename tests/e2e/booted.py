"""A real systemd of one's own, booted in name spaces over a throwaway copy of this machine.

    with Booted(tmp_path) as machine:        # 0.5 s; raises Unbootable(why) where it cannot be
        machine.run("dpkg", "-i", "/results/learnd.deb")
        machine.run("systemctl", "start", "learnd")

Its root is this machine's, with a tmpfs over it (overlayfs): what is installed, written or broken
in it is gone at the end. It has its own processes, mounts, network (a loopback, no more), host
name, IPC and cgroups. `results` is a folder that both sides see, at /results inside. Needs root.
"""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

# What runs as the first process of the name spaces: builds the root, then becomes systemd.
INIT = r"""
set -e
work=$1 m=$1/root/m
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work/root"
mkdir "$work/root/upper" "$work/root/work" "$m"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/root/upper,workdir=$work/root/work" "$m"
mount -t proc proc "$m/proc"
mount -t sysfs -o ro sysfs "$m/sys"
mount -t tmpfs -o mode=755 tmpfs "$m/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$m/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$m/dev"
for d in null zero full random urandom tty; do
    touch "$m/dev/$d"
    mount --bind "/dev/$d" "$m/dev/$d"
done
mkdir "$m/dev/shm" "$m/dev/pts"
mount -t tmpfs tmpfs "$m/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$m/dev/pts"
ln -s pts/ptmx "$m/dev/ptmx"
ln -s /proc/self/fd "$m/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$m/run"
mount -t tmpfs -o mode=1777 tmpfs "$m/tmp"
mkdir -p "$m/results"
mount --bind "$work/results" "$m/results"
ip link set lo up
mkdir -p "$m/etc/systemd/system"
units=$m/etc/systemd/system
printf '[Unit]\nDescription=nothing else\nDefaultDependencies=no\n' >"$units/bare.target"
for unit in udevd hwdb-update timesyncd resolved networkd logind update-done machine-id-commit \
    firstboot random-seed; do
    ln -sf /dev/null "$units/systemd-$unit.service"
done
: >"$m/etc/fstab"
rm -f "$m/var/lib/man-db/auto-update"  # every dpkg would read all manual pages of the machine
mkdir "$m/before"
cd "$m"
pivot_root . before  # (not chroot: user name spaces are not for those in one)
umount -l /before
mount --make-rshared /  # what systemd mounts for a unit (its credentials) has to be seen by it
exec env -i container=learnd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=bare.target --log-target=null --show-status=no
"""


class Unbootable(Exception):
    """No systemd can be started here; says why."""


def cgroup2():
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    raise Unbootable("no cgroup2 is mounted")


class Booted:
    def __init__(self, folder):
        if os.geteuid() != 0:
            raise Unbootable("this takes root")
        if not Path("/lib/systemd/systemd").exists():
            raise Unbootable("systemd is not installed")
        self.work = Path(folder) / "booted"
        self.results = self.work / "results"
        for path in (self.work / "root", self.results):
            path.mkdir(parents=True)
        self.group = cgroup2() / f"learnd-test-{os.getpid()}-{id(self):x}"
        self.process = self.pid = None

    def __enter__(self):
        try:
            self.group.mkdir()
        except OSError as error:
            raise Unbootable(f"no cgroup can be made: {error}") from None
        try:
            with open(self.work / "init.log", "wb") as said:
                self.process = subprocess.Popen(
                    ["unshare", "-m", "-p", "-f", "-u", "-i", "-n", "-C", "--kill-child", "sh",
                     "-c", INIT, "init", str(self.work)], stdin=subprocess.DEVNULL, stdout=said,
                    stderr=said, preexec_fn=self._enter_group)
        except (OSError, subprocess.SubprocessError) as error:
            self.group.rmdir()
            raise Unbootable(f"its first process cannot be started: {error}") from None
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _enter_group(self):
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def _wait_until_up(self):
        until = time.monotonic() + 60
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while True:
            if self.process.poll() is not None:
                said = (self.work / "init.log").read_text("utf-8", "replace").strip()
                raise Unbootable(said.splitlines()[-1] if said else "its first process ended")
            if time.monotonic() > until:
                raise Unbootable("systemd does not come up within 60 s")
            try:
                self.pid = self.pid or int(children.read_text().split()[0])
                if self.run("systemctl", "is-active", "bare.target", check=False).returncode == 0:
                    return
            except (IndexError, ValueError, OSError):
                pass
            time.sleep(0.02)

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)  # and --kill-child takes all the rest with it
        if self.process is not None:
            self.process.wait()
        until = time.monotonic() + 30
        while self.group.exists() and time.monotonic() < until:
            for path in sorted(self.group.rglob("*"), key=lambda p: -len(p.parts)):
                if path.is_dir():
                    try:
                        path.rmdir()
                    except OSError:
                        pass
            try:
                self.group.rmdir()
            except OSError:
                time.sleep(0.02)
        shutil.rmtree(self.work / "root", ignore_errors=True)

    def run(self, *words, check=True, timeout=120, **more):
        """Runs a command inside, as its root."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w",
             "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=timeout, **more)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
        return done

    def shell(self, text, **more):
        return self.run("sh", "-c", text, **more).stdout

    def show(self, unit, name):
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self, unit):
        """Its lines as JSON, of systemd and of the unit."""
        return self.run("journalctl", "--no-pager", "-o", "json", "-u", unit, check=False).stdout
