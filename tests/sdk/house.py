"""What the Python checks stand on: the binary, and an upstream that plays back the recordings in `fixtures/`.

The scripted upstream answers a chat call by its model: `text` is `fixtures/text.json`, or `fixtures/text.sse` when a
stream is asked for, without its usage unless that is asked for, too. `cut` is the stream of `text` broken off after three events, `hold` the same kept open. `cut-once` is `text`, but its first call is broken
off after five events, once `gate` is set. `busy-once` is `text`, but its first call is a 429 that asks for a second of patience.
"""

import json
import os
import queue
import subprocess
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
BINARY = Path(os.environ.get("REFRAIN_BIN", HERE / "../../target/debug/refrain")).resolve()
DEADLINE = 30


class Scripted(ThreadingHTTPServer):
    """The scripted upstream; `calls` counts the chat calls, `heads` are their header fields, `given_up` is set when a held stream
    loses its client."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls = 0
        self.heads = []
        self.given_up = threading.Event()
        self.gate = threading.Event()
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Says nothing: clients that hang up are part of the checks."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.calls += 1
        self.server.heads.append(self.headers)
        model = asked["model"]
        if model in ("cut-once", "busy-once") and self.server.calls > 1:
            model = "text"
        if model == "busy-once":
            self.refuse(recording("busy.json"))
        elif model == "cut-once":
            self.stream(events("text.sse")[:5])
            self.server.gate.wait(DEADLINE)
            self.leave_open(False)
        elif model in ("cut", "hold"):
            self.stream(events("text.sse")[:3])
            self.leave_open(model == "hold")
        elif asked.get("stream"):
            options = asked.get("stream_options") or {}
            self.stream(events(f"{model}.sse") if options.get("include_usage") else silent(f"{model}.sse"))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.whole(recording(f"{model}.json"))

    def head(self, *fields):
        self.send_response(200)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("x-request-id", f"req-{self.server.calls}")
        self.end_headers()

    def refuse(self, body):
        self.send_response(429)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(body)

    def whole(self, body):
        self.head(("content-type", "application/json"), ("content-length", str(len(body))))
        self.wfile.write(body)

    def stream(self, pieces):
        self.head(("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()

    def leave_open(self, hold):
        """Ends the connection without the last chunk, at once or when the client has gone."""
        self.close_connection = True
        if hold:
            self.rfile.read(1)
            self.server.given_up.set()

    def log_message(self, *_):
        """Says nothing."""


def recording(name):
    """Returns the bytes of a recording."""
    return (HERE / "fixtures" / name).read_bytes()


def events(name):
    """Returns the events of a recorded stream, each with its blank line."""
    return [event + b"\n\n" for event in recording(name).split(b"\n\n") if event]


def silent(name):
    """Returns the events of a recorded stream as they are for who does not ask for the usage."""
    told = [event for event in events(name) if b'"choices":[],"usage"' not in event]
    return [event.replace(b',"usage":null', b"") for event in told]


@contextmanager
def scripted():
    """Runs a scripted upstream."""
    server = Scripted()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def refrain(*args, announces):
    """Runs the binary until its banner has a line that begins with each of `announces`; yields what follows them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFRAIN_")}
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [BINARY, *args],
            cwd=home,
            env={**environment, "XDG_CACHE_HOME": home, "REFRAIN_STORE__BUDGET": "10s"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield banner(process.stdout, announces)
        finally:
            process.kill()
            process.wait()


def banner(stream, announces):
    """Waits for the announced lines and returns the rest of each."""
    lines = queue.Queue()

    def read():
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    found = {}
    while len(found) < len(announces):
        line = lines.get(timeout=DEADLINE)
        assert line is not None, f"the binary ended before it announced {announces}"
        for start in announces:
            if line.startswith(start):
                found[start] = line.removeprefix(start).strip()
    return [found[start] for start in announces]


@contextmanager
def proxy(upstream):
    """Runs the proxy in front of `upstream`; yields the base URL for an SDK and the admin URL."""
    listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", upstream]
    with refrain(*listen, announces=["export OPENAI_BASE_URL=", "admin "]) as urls:
        yield urls


@contextmanager
def mock():
    """Runs the mock; yields its base URL."""
    with refrain("mock", "--listen", "127.0.0.1:0", announces=["mock "]) as (url,):
        yield url


def metric(admin, name):
    """Returns the value of a metric without labels."""
    with urllib.request.urlopen(f"{admin}/metrics", timeout=DEADLINE) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def get_json(url):
    """Returns the JSON at `url`."""
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return json.load(answer)
