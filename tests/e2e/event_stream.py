"""One event stream of a daemon, read as a client of server-sent events does.

    with EventStream(daemon, "types=label") as stream:
        event = next(stream)            # .id .kind .data; each is held against the contract
    stream.last_id                      # what a client comes back with; marks set it too

Reading blocks until there is something; the end of the stream, which must be a proper one, is
StopIteration.
"""
import http.client
import json
import socket
from collections import namedtuple

Event = namedtuple("Event", "id kind data")


class EventStream:
    def __init__(self, daemon, query="", last_id=None, receive_bytes=None, timeout=120):
        self.contract = daemon.contract
        self.connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=timeout)
        self.connection.sock = socket.socket()
        if receive_bytes:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.connection.sock.settimeout(timeout)
        self.connection.sock.connect((daemon.host, daemon.port))
        headers = {"Last-Event-ID": last_id} if last_id else {}
        if "Authorization" in daemon.session.headers:
            headers["Authorization"] = daemon.session.headers["Authorization"]
        self.connection.request("GET", "/v1/events" + ("?" + query if query else ""),
                                headers=headers)
        self.answer = self.connection.getresponse()
        self.last_id, self.retry_ms, self.marks = None, None, 0
        assert self.answer.status == 200, (self.answer.status, self.answer.read())
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        assert self.answer.headers["Cache-Control"] == "no-cache"
        self.first = self.block()  # where it stands, or a reset

    def block(self):
        """Up to the next empty line: an Event, or None for a mark."""
        fields, comment = {}, False
        while True:
            line = self.answer.readline()
            assert line.endswith(b"\n") or line == b"", "a line is cut off"
            if line == b"":
                assert not fields and not comment, "an event is cut off"
                raise StopIteration
            line = line.decode().rstrip("\n")
            if line == "":
                break
            if line.startswith(":"):
                comment = True
                continue
            name, _, value = line.partition(": ")
            assert name in ("id", "event", "data", "retry") and name not in fields, line
            fields[name] = value
        self.last_id = fields.get("id", self.last_id)
        self.retry_ms = int(fields.get("retry", self.retry_ms or 0))
        if "data" not in fields:
            self.marks += 1
            return None
        data = json.loads(fields["data"])
        if self.contract is not None:
            self.contract.check_event(fields["event"], data)
        return Event(fields["id"], fields["event"], data)

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            event = self.block()
            if event is not None:
                return event

    def take(self, n):
        return [next(self) for _ in range(n)]

    def close(self):
        self.answer.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
