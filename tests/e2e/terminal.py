"""learnctl at a terminal of its own: what it shows, keys for it, and whether the terminal is as it was.

    with Terminal(["watch"], env) as t:
        t.wait("questions/s")       # until the frame that is shown has it
        t.keys("q")
        assert t.end() == 0         # the exit status, after the terminal was looked at
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from test_ctl import binary

SECONDS = 60
HOME, ENTER, LEAVE = b"\x1b[H", b"\x1b[?1049h", b"\x1b[?1049l"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    def __init__(self, args, env, rows=40, columns=100):
        self.leader, self.follower = pty.openpty()
        self.size(rows, columns)
        self.before = termios.tcgetattr(self.follower)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("LEARNCTL_", "NO_COLOR"))}
        self.process = subprocess.Popen(
            [binary(), *map(str, args)], env={**own, "TERM": "xterm-256color", **env},
            stdin=self.follower, stdout=self.follower, stderr=subprocess.PIPE,
            preexec_fn=os.setsid)
        self.shown = b""

    def size(self, rows, columns):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.size(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def keys(self, text):
        os.write(self.leader, text.encode())

    def read(self, seconds):
        if select.select([self.leader], [], [], seconds)[0]:
            self.shown += os.read(self.leader, 65536)
            return True
        return False

    @property
    def frame(self):
        """The lines of the last frame that is whole (it ends with "clear what is below")."""
        whole = self.shown.rpartition(b"\x1b[J")[0]
        text = whole.rpartition(HOME)[2].decode("utf-8", "replace")
        return SEQUENCE.sub("", text).replace("\r", "").split("\n")

    @property
    def text(self):
        return "\n".join(self.frame)

    def wait(self, pattern, seconds=SECONDS):
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert self.process.poll() is None, (pattern, self.text, self.process.stderr.read())
            assert time.monotonic() < until, f"no {pattern!r} on:\n{self.text}"
            self.read(0.1)
        return self.text

    def end(self):
        """Until it has ended; the terminal must be as it was. Returns the exit status."""
        until = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it does not end:\n{self.text}"
            self.read(0.05)
        while self.read(0):
            pass
        self.err = self.process.stderr.read().decode()
        assert "Sanitizer" not in self.err and "runtime error" not in self.err, self.err
        if ENTER in self.shown:
            tail = self.shown.rpartition(ENTER)[2]
            assert LEAVE in tail and b"\x1b[?25h" in tail and b"\x1b[0m" in tail
        assert termios.tcgetattr(self.follower) == self.before
        return self.process.returncode

    def after(self):
        """What stands on the terminal once the screen was left."""
        return SEQUENCE.sub("", self.shown.rpartition(LEAVE)[2].decode()).replace("\r", "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        os.close(self.leader)
        os.close(self.follower)
