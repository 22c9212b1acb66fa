"""What a service manager does to a daemon, without one: listens to sd_notify(3), hands over sockets,
and (for the watchdog) stops a single thread of it, as a hang would."""
import ctypes
import os
import select
import socket
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
        raise AssertionError(f"no {name}={value or '..'} within {seconds} s, but {self.heard[-20:]}")

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
    """A thread that stands still, as long as the block lasts. Raises PermissionError where nobody may
    do that."""

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
        except ProcessLookupError:
            pass  # it was ended meanwhile
