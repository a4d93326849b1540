"""Runs the benchmark of two versions alternately: of this checkout, and of a revision of its repository.

The revision gets a git worktree with an environment of its own, made by its own launcher. This checkout's load is
copied into it, so that one load drives both versions. A revision that is too old for that runs its own benchmark.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baraza.bench.arrivals import Arrivals
from baraza.bench.comparison import Figures, figures_of
from baraza.terminal import Refusal, notify

ROOT = Path(__file__).resolve().parents[3]
LOAD = ("cli/baraza/bench", "cli/baraza/commands/bench.py")
"""What this checkout and the revision have in common while they are compared."""
USES_LOAD = "import baraza.commands.bench, baraza.bench.modes, baraza.bench.session"
OWN_MODE = "peers"
"""The benchmark of a revision that cannot run this checkout's load; every revision has it."""
GIT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A checkout whose benchmark can be run."""

    name: str
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each run measures: the seconds of each load and of the warm-up before it, and how orders arrive.

    Pairs of runs begin until there are ``pairs_max``, or until ``seconds_max`` have passed; there is one at least.
    """

    seconds: float
    warm_up_s: float
    arrivals: Arrivals
    pairs_max: int
    seconds_max: float | None


def compared(revision: str, plan: Plan) -> Iterator[tuple[Figures, Figures]]:
    """Yield the figures of this checkout and of the revision, a pair of runs; every other pair is reversed."""
    this = Version(name="this checkout", root=ROOT)
    with checked_out(revision) as other:
        shares_load = _shares_load(other)
        arguments = {
            this.name: _arguments(plan, shares_load=shares_load, is_this=True),
            other.name: _arguments(plan, shares_load=shares_load, is_this=False),
        }
        began_at_s = time.monotonic()
        for number in range(plan.pairs_max):
            if number and plan.seconds_max is not None and time.monotonic() - began_at_s > plan.seconds_max:
                return
            notify(f"Pair {number + 1} of {plan.pairs_max} at most.")
            order = (this, other) if number % 2 == 0 else (other, this)
            figures = {each.name: figures_of(run(each, arguments[each.name])) for each in order}
            yield figures[this.name], figures[other.name]


@contextmanager
def checked_out(revision: str) -> Iterator[Version]:
    """Yield a worktree of the revision, and remove it. Raises Refusal where there is no such revision."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    folder = ROOT / ".baraza" / "compared" / commit[:12]
    _remove(folder)  # what a killed comparison left
    folder.parent.mkdir(parents=True, exist_ok=True)
    _git("worktree", "add", "--detach", "--force", str(folder), commit)
    try:
        yield Version(name=commit[:12], root=folder)
    finally:
        _remove(folder)


def run(version: Version, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a version's benchmark as a process and return its JSON. Raises Refusal where it fails or its audit is red."""
    command = (str(version.root / "baraza"), "bench", *arguments, "--json")
    notify(f"{version.name}: ./baraza {' '.join(command[1:])}")
    environment = _environment()
    with subprocess.Popen(command, cwd=version.root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()  # it takes its own stack down
    if process.returncode:
        raise Refusal(f"The benchmark of {version.name} ended with status {process.returncode}; see above.")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _shares_load(other: Version) -> bool:
    """Copy this checkout's load into the revision; where it does not fit, put the revision's own back."""
    _prepare(other)
    for path in LOAD:
        target = other.root / path
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / path
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    python = other.root / ".venv" / "bin" / "python"
    if subprocess.run((str(python), "-P", "-c", USES_LOAD), capture_output=True, check=False).returncode == 0:
        return True
    _git("checkout", "--force", "HEAD", "--", ".", root=other.root)
    _git("clean", "-fdq", "--", *LOAD, root=other.root)
    notify(f"{other.name} is too old for this checkout's load; each runs `bench {OWN_MODE}`, in even beats.")
    return False


def _prepare(version: Version) -> None:
    """Let the version's launcher make its environment."""
    made = subprocess.run(
        (str(version.root / "baraza"), "--help"),
        cwd=version.root,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if made.returncode:
        raise Refusal(f"The environment of {version.name} could not be made; see above.")


def _arguments(plan: Plan, *, shares_load: bool, is_this: bool) -> tuple[str, ...]:
    seconds = ("--seconds", str(plan.seconds))
    if not shares_load:
        # The revision's own load knows only even beats, and no option for them.
        return (OWN_MODE, *seconds, *(("--arrivals", Arrivals.EVEN.value) if is_this else ()))
    return ("steady", *seconds, "--warm-up", str(plan.warm_up_s), "--arrivals", plan.arrivals.value)


def _environment() -> dict[str, str]:
    """Return the environment without what names this checkout's own Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON", "UV_"))}


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")


def _git(*arguments: str, root: Path | None = None) -> str:
    where = ROOT if root is None else root
    done = subprocess.run(
        ("git", "-C", str(where), *arguments), capture_output=True, text=True, check=False, timeout=GIT_TIMEOUT_S
    )
    if done.returncode:
        raise Refusal(f"git {' '.join(arguments)} failed in {where}: {done.stderr.strip() or 'no such revision'}.")
    return done.stdout.strip()
