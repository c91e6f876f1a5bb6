"""The container, the compose files, the balancer and the service unit agree with each other and with Refrain's defaults.

There is no container engine here: the image is not built. What it would be started with is tried in namespaces instead
(`rehearsal.py`), the files are read by linters.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import compose_spec
import pytest

from image import DOCKERFILE, ROOT, Image

REFRAIN = os.environ.get("REFRAIN_BIN", str(ROOT / "target/debug/refrain"))
UNIT = ROOT / "packaging/refrain.service"
BALANCER = ROOT / "packaging/haproxy.cfg"
# src/app.rs: for calls that are cut off to be written down, and for the disk to take what waits.
AFTER_DRAIN = 1 + 5
# `systemd-analyze security`, 0 (locked up) to 10 (open to everything).
EXPOSURE = 1.5


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


@pytest.fixture(scope="module")
def defaults():
    return tomllib.loads((ROOT / "proxy.toml").read_text())


@pytest.fixture(scope="module")
def image():
    return Image.read()


def services(file):
    """Returns the services of a compose file, which the parser has accepted."""
    return compose_spec.PyCompose.from_yaml((ROOT / file).read_text()).to_dict()["services"]


@pytest.fixture(scope="module")
def service():
    """The one service of the compose file."""
    ((name, service),) = services("docker-compose.yml").items()
    assert name == "refrain"
    return service


@pytest.fixture(scope="module")
def replicated():
    return services("docker-compose.replicas.yml")


def unit(name):
    """Returns the values of a setting of the unit, in their order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def longest_end(defaults):
    return seconds(defaults["limits"]["drain"]) + AFTER_DRAIN


def tool(name, package):
    return shutil.which(name) or pytest.skip(f"{name} is not here: apt-get install {package}")


def test_the_dockerfile_has_no_complaint_from_its_linter():
    # Beside the running Python, as nobody activates the environment that it lives in.
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_image_runs_as_nobody_with_its_store_in_a_volume(image):
    assert image.user == (65532, 65532)
    assert image.stop_signal == "SIGTERM"
    assert image.volumes == [image.env["STATE_DIRECTORY"]]
    assert image.copies["/out/state"] == (image.volumes[0], "65532:65532")
    binary, _ = image.copies["/out/refrain"]
    assert image.entrypoint == [binary]
    assert image.health == [binary, "health"]


def test_the_image_exposes_what_it_listens_on(image):
    listens = [image.env["REFRAIN_LISTEN"], image.env["REFRAIN_ADMIN__LISTEN"]]
    assert listens == [f"0.0.0.0:{port}" for port in image.ports]


def test_the_build_sends_every_file_that_cargo_reads():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    read = {"Cargo.toml", "Cargo.lock", *(bench.get("path", "benches") for bench in manifest["bench"])}
    for source in (ROOT / "src").rglob("*.rs"):
        # What only tests include is not built.
        built = source.read_text().split("#[cfg(test)]\nmod tests {")[0] if source.stem != "tests" else ""
        for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', built):
            read.add(str((source.parent / name).resolve().relative_to(ROOT)))
    assert "proxy.toml" in read
    parts = {Path(path).parts[0] for path in read}
    assert parts <= allowed, parts - allowed


def test_the_compose_file_gives_the_image_what_it_needs_and_no_more(image, service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["healthcheck"]["test"] == ["CMD", *image.health]
    ports = [str(port).split(":") for port in service["ports"]]
    assert [int(inside) for *_, inside in ports] == image.ports
    assert {address for address, *_ in ports} == {"127.0.0.1"}, "reachable by others unless someone decides so"
    ((name, target),) = [str(volume).split(":") for volume in service["volumes"]]
    assert [target] == image.volumes
    assert name.isalnum(), "a named volume, no directory of the host"


def test_both_replicas_get_what_the_image_needs_and_share_one_redis(image, replicated):
    assert sorted(replicated) == ["balancer", "redis", "refrain-1", "refrain-2"]
    one, two = replicated["refrain-1"], replicated["refrain-2"]
    assert one == two
    assert one["environment"]["REFRAIN_STORE__REDIS"] == "redis://redis:6379"
    assert one["healthcheck"]["test"] == ["CMD", *image.health]
    assert one["tmpfs"] == image.volumes
    for service in replicated.values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    reachable = [port for service in replicated.values() for port in service.get("ports", [])]
    assert reachable == ["127.0.0.1:8080:8080"], "the balancer, and from this machine only"
    redis = replicated["redis"]["command"]
    assert "--maxmemory-policy volatile-" in redis and "--maxmemory " in redis


def test_the_balancer_sees_that_a_replica_goes_before_its_port_is_closed(replicated):
    check = re.search(r"check inter (\d+s) fall (\d+)", BALANCER.read_text())
    noticed = seconds(check[1]) * int(check[2])
    assert seconds(replicated["refrain-1"]["environment"]["REFRAIN_LIMITS__MIN_DRAIN"]) > noticed


def test_the_balancer_waits_longer_than_refrain(defaults):
    minutes = int(re.search(r"timeout server (\d+)m", BALANCER.read_text())[1])
    upstream = defaults["upstream"][0]["timeouts"]
    longest = max(int(upstream[timer].removesuffix("m")) for timer in ("first_byte", "idle"))
    assert minutes > longest


def test_the_balancer_has_no_complaint_from_haproxy():
    haproxy = tool("haproxy", "haproxy")
    checked = subprocess.run([haproxy, "-c", "-f", BALANCER], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_whoever_ends_the_service_waits_until_calls_have_ended(defaults, service, replicated):
    for composed in (service, replicated["refrain-1"], replicated["refrain-2"]):
        assert seconds(composed["stop_grace_period"]) > longest_end(defaults)
    (stop,) = unit("TimeoutStopSec")
    assert seconds(stop) > longest_end(defaults)


def test_the_unit_says_only_what_refrain_can_do():
    help_text = subprocess.run([REFRAIN, "--help"], check=True, capture_output=True, text=True).stdout
    (start,) = unit("ExecStart")
    for flag in re.findall(r"--\w+", start):
        assert f"{flag} <" in help_text
    assert unit("ExecReload") == [], "there is no reload yet"
    assert unit("StateDirectory") == ["refrain"]
    assert unit("RestartPreventExitStatus") == ["2 78"]


def installed_unit(folder):
    """Returns the unit as it would be with this binary: the verifier wants the program to be there."""
    copy = folder / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/refrain", REFRAIN))
    return copy


def test_the_unit_has_no_complaint_from_systemd(tmp_path):
    analyze = tool("systemd-analyze", "systemd")
    command = [analyze, "verify", "--man=no", "--recursive-errors=one", installed_unit(tmp_path)]
    verified = subprocess.run(command, capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_the_unit_is_locked_up(tmp_path):
    analyze = tool("systemd-analyze", "systemd")
    threshold = f"--threshold={round(EXPOSURE * 10)}"
    command = [analyze, "security", "--offline=yes", "--no-pager", threshold, installed_unit(tmp_path)]
    rated = subprocess.run(command, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_a_container_lives_through_start_kill_stop_and_restart():
    if os.geteuid() != 0:
        pytest.skip("needs root, as it mounts")
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("namespaces are not allowed here")
    rehearsal = Path(__file__).with_name("rehearsal.py")
    gone = subprocess.run([*apart, sys.executable, rehearsal, REFRAIN], capture_output=True, text=True, timeout=120)
    assert gone.returncode == 0, gone.stdout + gone.stderr
