"""``baraza test``: the whole check, in the order in which it fails fastest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from baraza.terminal import FOUND_A_PROBLEM, Refusal, say, stop

ROOT = Path(__file__).resolve().parents[3]
NOTHING_COLLECTED = 5
"""pytest's own exit status where no test was found."""


def packages(root: Path) -> list[str]:
    """Return the folder of every package of ours, as they stand in the repository."""
    members = [*root.glob("*/pyproject.toml"), *root.glob("services/*/pyproject.toml")]
    found = [folder for member in members for folder in member.parent.iterdir() if (folder / "__init__.py").is_file()]
    return sorted(str(folder.relative_to(root)) for folder in found)


def checks(root: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield every check that comes before the tests, with what it says of the code."""
    yield "style (ruff)", ("ruff", "check", ".")
    yield "types (mypy)", ("mypy", *packages(root))
    yield "import rules (import-linter)", ("importlinter.cli", "lint")
    yield "generated code is current", ("messages.generate", "--check")


def run(
    pytest_arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on to pytest, after --.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the checks and the unit tests; needs no stack.")] = False,
) -> None:
    """Check everything: style, types, import rules, generated code, then the tests."""
    failed = [what for what, command in checks(ROOT) if not _passes(what, command)]
    selection = ["tests/unit"] if quick and not pytest_arguments else []
    say("── tests (pytest)")
    code = _run(["pytest", *selection, *(pytest_arguments or [])])
    if failed:
        raise Refusal(f"Not in order: {', '.join(failed)}. The reasons stand above.")
    if code:
        stop(FOUND_A_PROBLEM if code != NOTHING_COLLECTED else code)


def _passes(what: str, command: Sequence[str]) -> bool:
    say(f"── {what}")
    return _run(command) == 0


def _run(command: Sequence[str]) -> int:
    """Run a module of this environment in the repository, its output to ours, and return its exit status.

    An interrupt reaches it from the terminal as it reaches us; it gets the time to take its own stack down.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment)
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        if code in (-signal.SIGINT, 2) and command[0] == "pytest":
            raise KeyboardInterrupt
        return code
