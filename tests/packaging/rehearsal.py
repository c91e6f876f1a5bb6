"""Goes through the life of a container without a container engine: the same root, user, environment and signals.

    unshare --mount --net --pid --fork --kill-child python3 tests/packaging/rehearsal.py REFRAIN

Needs root, as it mounts; says what it did, a line a step, and ends with 0 if every step went as it should. The root
directory holds the binary, the C library that it names, CA certificates and nothing else, and is mounted read-only; the volume
is a file system of its own. What differs from an engine: no seccomp profile, no control group, no build of the image.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from image import Image

# What is in gcr.io/distroless/cc-debian12 beside the C library's own.
PROVIDED = re.compile(r"lib(c|m|dl|pthread|rt|gcc_s|stdc\+\+)\.so\.\d+|ld-linux-.*\.so\.\d+")
# glibc of Debian 12.
GLIBC = (2, 36)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEADLINE = 20
MOCK = "127.0.0.1:9000"


def say(step):
    print(f"ok: {step}", flush=True)


def run(*command):
    subprocess.run(command, check=True)


class Container:
    """A root directory as the image has it, and the process in it."""

    def __init__(self, image, binary, folder):
        self.image, self.root = image, Path(folder)
        self.process = None
        self._fill(Path(binary).resolve())

    def _fill(self, binary):
        place, _ = self.image.copies["/out/refrain"]
        for source, target in [(binary, place), *((library, library) for library in libraries(binary))]:
            self._put(source, target)
        if CERTIFICATES.exists():
            self._put(CERTIFICATES, CERTIFICATES)
        for folder in ("proc", "tmp"):
            (self.root / folder).mkdir()
        (volume,) = self.image.volumes
        mounted = self._within(volume)
        mounted.mkdir(parents=True)
        run("mount", "--bind", self.root, self.root)
        run("mount", "-o", "remount,bind,ro", self.root)
        run("mount", "-t", "proc", "proc", self.root / "proc")
        # An engine gives a new volume the owner and the mode of what the image has in its place.
        uid, gid = self.image.user
        run("mount", "-t", "tmpfs", "-o", f"mode=0700,uid={uid},gid={gid}", "volume", mounted)

    def _within(self, path):
        return self.root / str(path).lstrip("/")

    def _put(self, source, target):
        place = self._within(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place)

    @property
    def volume(self):
        (volume,) = self.image.volumes
        return self._within(volume)

    def _command(self, words):
        uid, gid = self.image.user
        inside = ["chroot", f"--userspec={uid}:{gid}", "--groups=", str(self.root), *words]
        return ["setpriv", "--no-new-privs", *inside]

    def start(self):
        env = {**self.image.env, "REFRAIN_UPSTREAM__BASE_URL": f"http://{MOCK}/v1", "PATH": os.environ["PATH"]}
        # A busy machine is no slow disk.
        env["REFRAIN_STORE__BUDGET"] = "10s"
        self.process = subprocess.Popen(self._command(self.image.entrypoint), env=env, stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while (answer := self.health()).returncode != 0:
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() - started < DEADLINE, answer.stderr
        return answer.stdout.strip()

    def health(self):
        words = self._command(self.image.health)
        return subprocess.run(words, env=self.image.env | {"PATH": os.environ["PATH"]}, capture_output=True, text=True)

    def stop(self):
        self.process.send_signal(getattr(signal, self.image.stop_signal))
        return self.process.wait(DEADLINE)

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE)


def libraries(binary):
    """Returns the libraries that the binary is linked to."""
    listed = subprocess.run(["ldd", binary], check=True, capture_output=True, text=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def check_links(binary):
    missing = [library.name for library in libraries(binary) if not PROVIDED.fullmatch(library.name)]
    assert not missing, f"the image does not have {missing}"
    wanted = re.findall(rb"GLIBC_(\d+)\.(\d+)", Path(binary).read_bytes())
    newest = max((int(major), int(minor)) for major, minor in wanted)
    assert newest <= GLIBC, f"the binary wants glibc {newest}"
    say(f"the image has every library that the binary names; it wants glibc {newest[0]}.{newest[1]}")


def ask():
    """Asks the one question through the port that the image exposes; returns how it was answered."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
    request = urllib.request.Request(
        "http://127.0.0.1:8080/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        answer.read()
        return answer.headers["X-Cache"], answer.headers.get("X-Cache-Tier")


def written():
    """Waits until the answer lies on the disk."""
    started = time.monotonic()
    while True:
        with urllib.request.urlopen("http://127.0.0.1:8081/metrics", timeout=DEADLINE) as answer:
            if b"\nrefrain_disk_written_total 1" in answer.read():
                return
        assert time.monotonic() - started < DEADLINE, "nothing was written"


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r} instead of {wanted!r}"
    say(f"{what}: {found!r}")


@contextlib.contextmanager
def mock(binary):
    process = subprocess.Popen([binary, "mock", "--listen", MOCK], stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def rehearse(binary, folder):
    image = Image.read()
    run("mount", "--make-rprivate", "/")
    run("ip", "link", "set", "lo", "up")
    check_links(binary)
    container = Container(image, binary, folder)
    expect("health before the start", container.health().returncode, 1)
    with mock(binary):
        expect("health after the start", container.start(), "ready")
        # The container's own view: the outer `/proc` counts processes differently.
        status = (container.root / f"proc/{container.process.pid}/status").read_text()
        owner = [int(number) for number in re.search(r"^Uid:\t(.*)", status, re.M)[1].split()]
        expect("user", set(owner), {image.user[0]})
        expect("capabilities", re.search(r"^CapEff:\t(.*)", status, re.M)[1], "0" * 16)
        expect("first call", ask(), ("MISS", None))
        expect("second call", ask(), ("HIT", "memory"))
        written()
        files = {path.name: oct(path.stat().st_mode & 0o777) for path in container.volume.iterdir()}
        expect("files in the volume", set(files.values()), {"0o600"})
        container.kill()
        container.start()
        expect("after a kill", ask(), ("HIT", "disk"))
        expect(f"status after {image.stop_signal}", container.stop(), 0)
        container.start()
        expect("after a restart", ask(), ("HIT", "disk"))
        expect("status at the end", container.stop(), 0)
        expect("health after the end", container.health().returncode, 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        # What is mounted ends with the mount namespace; the directory below is empty again by then.
        top = Path(temporary) / "root"
        top.mkdir()
        try:
            rehearse(sys.argv[1], top)
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", top], check=False)
