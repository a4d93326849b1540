"""``baraza test``: every check, the fastest first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from baraza.terminal import FOUND_A_PROBLEM, notify, stop

ROOT = Path(__file__).resolve().parents[3]


def packages(root: Path) -> list[str]:
    """Return the folder of every package in the repository, in alphabetical order."""
    members = [*root.glob("*/pyproject.toml"), *root.glob("services/*/pyproject.toml")]
    found = [folder for member in members for folder in member.parent.iterdir() if (folder / "__init__.py").is_file()]
    return sorted(str(folder.relative_to(root)) for folder in found)


def checks(root: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield every check that runs before the tests: what it checks, and its command."""
    yield "style (ruff)", ("-m", "ruff", "check", ".")
    yield "types (mypy)", ("-m", "mypy", *packages(root))
    yield "import rules (import-linter)", ("lint-imports",)
    yield "generated code is current", ("-m", "messages.generate", "--check")


Arguments = Annotated[list[str] | None, typer.Argument(help="Passed to pytest, after --.", show_default=False)]
Quick = Annotated[bool, typer.Option("--quick", help="Only the checks, unit and contract tests; needs no stack.")]


def run(pytest_arguments: Arguments = None, quick: Quick = False) -> None:
    """Run every check: style, types, import rules, generated code, then the tests."""
    failed = [what for what, command in checks(ROOT) if not _passes(what, command)]
    selection = ["tests/unit", "tests/contract"] if quick else []
    if failed:
        notify(f"── failed: {', '.join(failed)}; see above")
    notify("── tests (pytest)")
    code = _run(["-m", "pytest", *selection, *(pytest_arguments or [])])
    # pytest's closing line is the last one, whatever the checks before it reported.
    if failed or code:
        stop(code or FOUND_A_PROBLEM)


def _passes(what: str, command: Sequence[str]) -> bool:
    notify(f"── {what}")
    return _run(command) == 0


def _run(command: Sequence[str]) -> int:
    """Run a module (``-m``) or a script of this environment in the repository and return its exit status.

    An interrupt reaches it from the terminal as it reaches us, and another signal is forwarded. It may then take its
    own stack down.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    first, *rest = command
    # The environment need not be on PATH; its scripts are beside its interpreter.
    started = ["-m", *rest] if first == "-m" else [str(Path(sys.executable).with_name(first)), *rest]
    process = subprocess.Popen([sys.executable, *started], cwd=ROOT, env=environment)
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        except SystemExit:
            process.terminate()
            process.wait()
            raise
        if code in (-signal.SIGINT, 2) and "pytest" in command:
            raise KeyboardInterrupt
        return code
