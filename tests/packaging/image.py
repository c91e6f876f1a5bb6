"""The runtime image as the Dockerfile describes it: its last stage, read instruction by instruction."""

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"


class Image:
    """What a container of the image is started with."""

    def __init__(self, text):
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        instructions = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
        instructions = [line.split(None, 1) for line in instructions if line.strip()]
        last = max(at for at, (word, _) in enumerate(instructions) if word == "FROM")
        self._stage = instructions[last:]

    @classmethod
    def read(cls):
        return cls(DOCKERFILE.read_text())

    def _all(self, word):
        return [rest for name, rest in self._stage if name == word]

    def _one(self, word):
        (rest,) = self._all(word)
        return rest

    @property
    def env(self):
        words = (word for rest in self._all("ENV") for word in shlex.split(rest))
        return dict(word.split("=", 1) for word in words)

    @property
    def ports(self):
        return [int(port) for port in self._one("EXPOSE").split()]

    @property
    def user(self):
        """User and group, as numbers: an orchestrator can tell that this is not root."""
        user, group = self._one("USER").split(":")
        return int(user), int(group)

    @property
    def volumes(self):
        return json.loads(self._one("VOLUME"))

    @property
    def stop_signal(self):
        return self._one("STOPSIGNAL")

    @property
    def entrypoint(self):
        return json.loads(self._one("ENTRYPOINT"))

    @property
    def health(self):
        _, command = self._one("HEALTHCHECK").split("CMD", 1)
        return json.loads(command)

    @property
    def copies(self):
        """What is copied out of the build, as `{from: (to, owner)}`."""
        copies = {}
        for rest in self._all("COPY"):
            *flags, source, target = rest.split()
            owner = [flag.removeprefix("--chown=") for flag in flags if flag.startswith("--chown=")]
            copies[source] = (target, owner[0] if owner else None)
        return copies
