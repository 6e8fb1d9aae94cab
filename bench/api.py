"""Measures one server of the Docker Engine API over its unix socket: `api.py SOCKET CASE [NUMBER]` prints one figure.

Only the standard library, and the same client for every server: what Python itself takes is in each figure alike. Where
that would be most of a figure, the client is a bare socket.
"""
import http.client
import json
import selectors
import socket
import statistics
import sys
import time

VERSION = "/v1.41"


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, kept alive."""

    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None, good=(200, 201, 204)):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, VERSION + path, None if body is None else json.dumps(body), headers)
        answer = self.getresponse()
        data = answer.read()
        if answer.status not in good:
            sys.exit(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data


def create(c, command, **host):
    body = {"Image": "bench", "Cmd": command, "HostConfig": host}
    return json.loads(c.ask("POST", "/containers/create", body))["Id"]


def milliseconds(count, work):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


class Bare:
    """A kept connection that sends a request as it is and reads the answer, with as little work as possible."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(path)

    def ask(self, request):
        self.sock.sendall(request)
        data = self.sock.recv(1 << 20)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.sock.recv(1 << 20)
        head = data[:end].lower()
        if b"chunked" in head:
            pieces = [data]
            while not pieces[-1].endswith(b"0\r\n\r\n"):
                # The end may have come in two pieces.
                if len(pieces) > 1 and (pieces[-2] + pieces[-1]).endswith(b"0\r\n\r\n"):
                    break
                pieces.append(self.sock.recv(1 << 20))
            return b"".join(pieces)
        at = head.index(b"content-length:") + 15
        missing = end + 4 + int(head[at:].split(b"\r", 1)[0]) - len(data)
        pieces = [data]
        while missing > 0:
            pieces.append(self.sock.recv(1 << 20))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def get(self, path):
        answer = self.ask(request("GET", path))
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"{path}: {answer[:200]!r}")
        return answer


def request(method, path, headers=""):
    return f"{method} {VERSION}{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


def inspect(c, count):
    """The median of `count` inspections of a container that runs, in ms."""
    name = create(c, ["sleep", "1000"])
    c.ask("POST", f"/containers/{name}/start")
    bare = Bare(c.path)
    bare.get(f"/containers/{name}/json")
    found = milliseconds(count, lambda: bare.get(f"/containers/{name}/json"))
    c.ask("DELETE", f"/containers/{name}?force=1")
    return found


def ping(c, count):
    """The median of `count` requests that ask nothing, in ms: what client and sockets take."""
    bare = Bare(c.path)
    return milliseconds(count, lambda: bare.get("/_ping"))


def listing(c, count):
    """The median of ten lists of `count` containers that do not run, in ms."""
    names = [create(c, ["true"]) for _ in range(count)]
    bare = Bare(c.path)
    found = milliseconds(10, lambda: bare.get("/containers/json?all=1"))
    shown = len(json.loads(c.ask("GET", "/containers/json?all=1")))
    for name in names:
        c.ask("DELETE", f"/containers/{name}")
    if shown < count:
        sys.exit(f"{shown} of {count} containers are listed")
    return found


def cycle(c, count):
    """The median of create, start, wait and remove, in ms."""

    def work():
        name = create(c, ["true"])
        c.ask("POST", f"/containers/{name}/start")
        c.ask("POST", f"/containers/{name}/wait")
        c.ask("DELETE", f"/containers/{name}")

    return milliseconds(count, work)


def events(c, count):
    """The median time from the request that makes a volume to the event at the last of `count` listeners, in ms."""
    listeners = selectors.DefaultSelector()
    for _ in range(count):
        own = Bare(c.path)
        own.sock.sendall(request("GET", '/events?filters={"type":["volume"],"event":["create"]}'))
        head = b""
        while b"\r\n\r\n" not in head:
            head += own.sock.recv(4096)
        own.sock.setblocking(False)
        listeners.register(own.sock, selectors.EVENT_READ, own)
    time.sleep(0.5)
    rounds = 30
    number = iter(range(rounds))
    bare = Bare(c.path)

    def work():
        name = f"bench{next(number)}"
        body = json.dumps({"Name": name}).encode()
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        bare.ask(request("POST", "/volumes/create", head) + body)
        waits = count
        came = {}
        until = time.monotonic() + 10
        while waits:
            if time.monotonic() > until:
                sys.exit("an event did not arrive within 10 s")
            for key, _ in listeners.select(1):
                # The end of the line that tells of it; a chunk's own end may follow later.
                data = came.get(key.fd, b"") + key.fileobj.recv(1 << 16)
                came[key.fd] = data
                if name.encode() in data and b"}\n" in data.replace(b"\r", b""):
                    waits -= 1
                    came[key.fd] = b""

    found = milliseconds(rounds, work)
    for i in range(rounds):
        c.ask("DELETE", f"/volumes/bench{i}")
    return found


def logs(c, lines):
    """Megabytes a second of log text to a follower, from the start of a container that writes `lines` lines to its end."""
    name = create(c, ["sh", "-c", f"yes 0123456789012345678901234567890123456789012345678 | head -n {lines}"])
    begin = time.perf_counter()
    c.ask("POST", f"/containers/{name}/start")
    c.request("GET", f"{VERSION}/containers/{name}/logs?follow=1&stdout=1&stderr=1")
    answer = c.getresponse()
    got = 0
    while data := answer.read1(1 << 20):
        got += len(data)
    took = time.perf_counter() - begin
    c.ask("DELETE", f"/containers/{name}?force=1")
    if got < lines * 58:
        sys.exit(f"{got} bytes of {lines * 58}")
    return got / took / 1e6


def attached(c, name, streams):
    """A connection that is attached to a container, and what came with its beginning."""
    raw = Bare(c.path).sock
    head = "Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0\r\n"
    raw.sendall(request("POST", f"/containers/{name}/attach?stream=1&{streams}", head))
    data = b""
    while b"\r\n\r\n" not in data:
        data += raw.recv(4096)
    return raw, data.split(b"\r\n\r\n", 1)[1]


def attach(c, megabytes):
    """Megabytes a second of output through an attached connection, from the start of the container to its end."""
    command = ["dd", "if=/dev/zero", "bs=65536", f"count={megabytes * 16}"]
    body = {"Image": "bench", "Cmd": command, "AttachStdout": True, "HostConfig": {"LogConfig": {"Type": "none"}}}
    name = json.loads(c.ask("POST", "/containers/create", body))["Id"]
    raw, data = attached(c, name, "stdout=1")
    got = len(data)
    begin = time.perf_counter()
    c.ask("POST", f"/containers/{name}/start")
    while piece := raw.recv(1 << 20):
        got += len(piece)
    took = time.perf_counter() - begin
    c.ask("DELETE", f"/containers/{name}?force=1")
    if got < megabytes << 20:
        sys.exit(f"{got} bytes of {megabytes << 20}")
    return got / took / 1e6


def typed(c, command):
    """A container that waits for input, with a connection for it."""
    body = {"Image": "bench", "Cmd": command, "AttachStdin": True, "OpenStdin": True, "StdinOnce": True}
    name = json.loads(c.ask("POST", "/containers/create", body))["Id"]
    raw, _ = attached(c, name, "stdin=1&stdout=1")
    c.ask("POST", f"/containers/{name}/start")
    return name, raw


def input(c, megabytes):
    """Megabytes a second of input through an attached connection, from the first byte to the end of the container."""
    name, raw = typed(c, ["dd", "of=/dev/null", "bs=65536"])
    piece = bytes(1 << 20)
    begin = time.perf_counter()
    for _ in range(megabytes):
        raw.sendall(piece)
    raw.shutdown(socket.SHUT_WR)
    c.ask("POST", f"/containers/{name}/wait")
    took = time.perf_counter() - begin
    c.ask("DELETE", f"/containers/{name}?force=1")
    return megabytes * (1 << 20) / took / 1e6


def line(c, count):
    """The median time from a line of input to the same line at who follows the container's log, in ms."""
    name, raw = typed(c, ["cat"])
    follower = Bare(c.path).sock
    follower.sendall(request("GET", f"/containers/{name}/logs?follow=1&stdout=1&tail=0"))
    time.sleep(0.3)
    head = follower.recv(4096)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"{head!r}")
    number = iter(range(count))

    def work():
        text = f"line {next(number)}.\n".encode()
        raw.sendall(text)
        data = b""
        while text not in data:
            data += follower.recv(4096)

    found = milliseconds(count, work)
    c.ask("DELETE", f"/containers/{name}?force=1")
    return found


def running(c, count):
    """Starts `count` containers that stay; prints how many ran."""
    for i in range(count):
        name = create(c, ["sleep", "1000"])
        c.ask("POST", f"/containers/{name}/start")
    return len(json.loads(c.ask("GET", "/containers/json")))


CASES = {f.__name__: f for f in (ping, inspect, listing, cycle, events, logs, line, attach, input, running)}
if __name__ == "__main__":
    print(f"{CASES[sys.argv[2]](Connection(sys.argv[1]), int(sys.argv[3])):.3f}")
