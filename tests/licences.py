#!/usr/bin/env python3
"""Checks that every crate in the lock file, as built here, may be used under a licence that we allow.

Reads `cargo metadata` (no network) and evaluates each crate's SPDX expression; exits 1 and names the crates that fail.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


def is_allowed(expression):
    """Returns whether one choice that the SPDX `expression` offers is allowed throughout."""
    # Older manifests write `MIT/Apache-2.0` for `MIT OR Apache-2.0`.
    tokens = re.findall(r"\(|\)|[^\s()]+(?: WITH [^\s()]+)?", expression.replace("/", " OR "))
    allowed = either(tokens)
    if tokens:
        raise ValueError(f"`{expression}` is no SPDX expression")
    return allowed


def either(tokens):
    """Evaluates terms joined by OR, taking their tokens."""
    allowed = both(tokens)
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        allowed = both(tokens) or allowed
    return allowed


def both(tokens):
    """Evaluates licences joined by AND, which binds closer than OR, taking their tokens."""
    allowed = licence(tokens)
    while tokens[:1] == ["AND"]:
        tokens.pop(0)
        allowed = licence(tokens) and allowed
    return allowed


def licence(tokens):
    """Evaluates one licence or one group in parentheses, taking its tokens."""
    token = tokens.pop(0) if tokens else ""
    if token != "(":
        return token in ALLOWED
    allowed = either(tokens)
    if tokens[:1] == [")"]:
        tokens.pop(0)
    return allowed


def packages():
    """Returns what cargo knows about every crate that is built on this machine."""
    host = re.search(r"^host: (\S+)$", run("rustc", "-vV"), re.MULTILINE)[1]
    metadata = run("cargo", "metadata", "--format-version=1", "--locked", "--offline", f"--filter-platform={host}")
    metadata = json.loads(metadata)
    built = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in built]


def run(*command):
    """Returns what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def self_check():
    """Asserts that the evaluation can fail, and where."""
    for expression, expected in [
        ("MIT", True),
        ("GPL-3.0", False),
        ("GPL-3.0 OR MIT", True),
        ("MIT OR GPL-3.0", True),
        ("MIT AND GPL-3.0", False),
        ("GPL-3.0 AND MIT OR ISC", True),
        ("(MIT OR GPL-3.0) AND GPL-2.0", False),
        ("(GPL-3.0 OR MIT) AND (ISC OR GPL-2.0)", True),
        ("MIT/GPL-3.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0 WITH Classpath-exception-2.0", False),
        ("", False),
    ]:
        assert is_allowed(expression) is expected, expression


def main():
    self_check()
    crates = packages()
    refused = [crate for crate in crates if not is_allowed(crate["license"] or "")]
    for crate in refused:
        print(f"error: {crate['name']} {crate['version']}: licence `{crate['license']}` is not allowed", file=sys.stderr)
    print(f"licences: {len(crates)} crates, {len(refused)} refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
