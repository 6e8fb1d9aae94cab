"""Measures one server of the Docker Engine API over its unix socket: `api.py SOCKET CASE [NUMBER]` prints one figure.

Only the standard library, and the same client for every server: what Python itself takes is in each figure alike.
"""
import http.client
import json
import socket
import statistics
import sys
import threading
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


def inspect(c, count):
    """The median of `count` inspections of a container that runs, in ms."""
    name = create(c, ["sleep", "1000"])
    c.ask("POST", f"/containers/{name}/start")
    c.ask("GET", f"/containers/{name}/json")
    found = milliseconds(count, lambda: c.ask("GET", f"/containers/{name}/json"))
    c.ask("DELETE", f"/containers/{name}?force=1")
    return found


def listing(c, count):
    """The median of ten lists of `count` containers that do not run, in ms."""
    names = [create(c, ["true"]) for _ in range(count)]
    found = milliseconds(10, lambda: c.ask("GET", "/containers/json?all=1"))
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
    arrived = threading.Semaphore(0)
    ready = threading.Semaphore(0)
    rounds = 30

    def listen():
        own = Connection(c.path)
        own.request("GET", VERSION + "/events?filters=" + '{"type":["volume"],"event":["create"]}')
        answer = own.getresponse()
        ready.release()
        for _ in range(rounds):
            answer.readline()
            arrived.release()

    for _ in range(count):
        threading.Thread(target=listen, daemon=True).start()
    for _ in range(count):
        ready.acquire()
    time.sleep(0.5)
    number = iter(range(rounds))

    def work():
        c.ask("POST", "/volumes/create", {"Name": f"bench{next(number)}"})
        for _ in range(count):
            if not arrived.acquire(timeout=10):
                sys.exit("an event did not arrive within 10 s")

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
    if got != lines * 58:
        sys.exit(f"{got} bytes of {lines * 58}")
    return got / took / 1e6


def attach(c, megabytes):
    """Megabytes a second of output through an attached connection, from the start of the container to its end."""
    body = {"Image": "bench", "Cmd": ["sh", "-c", f"yes | head -c {megabytes << 20}"], "AttachStdout": True}
    body["HostConfig"] = {"LogConfig": {"Type": "none"}}
    name = json.loads(c.ask("POST", "/containers/create", body))["Id"]
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(c.path)
    head = f"POST {VERSION}/containers/{name}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
    raw.sendall((head + "Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n").encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += raw.recv(4096)
    got = len(data.split(b"\r\n\r\n", 1)[1])
    begin = time.perf_counter()
    c.ask("POST", f"/containers/{name}/start")
    while piece := raw.recv(1 << 20):
        got += len(piece)
    took = time.perf_counter() - begin
    c.ask("DELETE", f"/containers/{name}?force=1")
    if got < megabytes << 20:
        sys.exit(f"{got} bytes of {megabytes << 20}")
    return got / took / 1e6


def running(c, count):
    """Starts `count` containers that stay; prints how many ran."""
    for i in range(count):
        name = create(c, ["sleep", "1000"])
        c.ask("POST", f"/containers/{name}/start")
    return len(json.loads(c.ask("GET", "/containers/json")))


CASES = {f.__name__: f for f in (inspect, listing, cycle, events, logs, attach, running)}
if __name__ == "__main__":
    print(f"{CASES[sys.argv[2]](Connection(sys.argv[1]), int(sys.argv[3])):.3f}")
