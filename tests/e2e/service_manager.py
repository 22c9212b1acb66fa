"""What a service manager does to a daemon, without one: listens to sd_notify(3), hands over
sockets, and (for the watchdog) stops a single thread of it, as a hang would."""
import ctypes
import os
import select
import socket
import subprocess
import time
from pathlib import Path

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000


class Manager:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, folder):
        self.path = Path(folder) / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.heard = []

    def environment(self, watchdog_s=None):
        env = {"NOTIFY_SOCKET": str(self.path)}
        if watchdog_s is not None:
            env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        return env

    def next(self, seconds=120):
        """The next message as {name: value}; None after so many seconds without one."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return None
        said = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))
        self.heard.append(said)
        return said

    def wait(self, name, value=None, seconds=120):
        """The next message with this name (and value)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            said = self.next(max(until - time.monotonic(), 0))
            if said is not None and name in said and value in (None, said[name]):
                return said
        raise AssertionError(f"no {name}={value or '..'} in {seconds} s, but {self.heard[-20:]}")

    def empty(self):
        """Takes what has come; how many there were."""
        count = 0
        while self.next(0) is not None:
            count += 1
        return count

    def close(self):
        self.socket.close()
        self.path.unlink(missing_ok=True)


def threads(pid, name):
    """Ids of the threads of this name."""
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().strip() == name]


class Frozen:
    """A thread that stands still, as long as the block lasts. Raises PermissionError where nobody
    may do that."""

    def __init__(self, thread):
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def _ptrace(self, what):
        if self.libc.ptrace(what, self.thread, None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def __enter__(self):
        self._ptrace(PTRACE_SEIZE)
        self._ptrace(PTRACE_INTERRUPT)
        os.waitpid(self.thread, WALL)  # it stands
        return self

    def __exit__(self, *_):
        try:
            self._ptrace(PTRACE_DETACH)
        except ProcessLookupError:  # it was ended meanwhile, and is ours to bury
            os.waitpid(self.thread, WALL)


# ---- a unit's SystemCallFilter

def allowed_calls(unit):
    """The names that the unit's filter lets through; its lines are read as systemd reads them."""
    allowed = set()
    for line in Path(unit).read_text().splitlines():
        if not line.startswith("SystemCallFilter="):
            continue
        words = line.split("=", 1)[1].split()
        taken = words[0].startswith("~")
        calls = set().union(*(expand(word.removeprefix("~")) for word in words))
        allowed = allowed - calls if taken else allowed | calls
    return allowed


def expand(name):
    if not name.startswith("@"):
        return {name}
    said = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], check=True,
                          capture_output=True, text=True).stdout.splitlines()[1:]
    words = [line.split("#")[0].strip() for line in said]
    return set().union(*(expand(word) for word in words if word))


KILL, ALLOW = 0x80000000, 0x7fff0000


def filter_of(calls):
    """For preexec: from now on any other call is the process's last. Raises OSError where there is
    no libseccomp."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    context = lib.seccomp_init(KILL)
    for name in calls:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert lib.seccomp_rule_add(context, ALLOW, number, 0) == 0, name

    def load():
        assert lib.seccomp_load(context) == 0
    return load
