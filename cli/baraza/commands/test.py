"""``baraza test``: every check, the fastest first."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from baraza.terminal import FOUND_A_PROBLEM, notify, stop

ROOT = Path(__file__).resolve().parents[3]


BESIDE = ("tests/unit", "tests/contract", "tests/proof", "tests/fuzz", "tests/bench", "tests/deploy", "tests/scenario")
"""What runs beside the rest, in about the same time."""
REST = ("tests/integration",)
ALONE = ("tests/fault",)
"""What runs when the others have ended: two processes of each service are as much as two processors carry."""


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
    """Run every check: style, types, import rules, generated code, then the tests.

    The tests run in two processes beside one another, and those with faults after them, alone. With arguments for
    pytest it is one process.
    """
    failed = [what for what, command in checks(ROOT) if not _passes(what, command)]
    selection = ["tests/unit", "tests/contract"] if quick else []
    if failed:
        notify(f"── failed: {', '.join(failed)}; see above")
    notify("── tests (pytest)")
    arguments = [*selection, *(pytest_arguments or [])]
    code = _run(["-m", "pytest", *arguments]) if arguments else _all_tests()
    # pytest's closing line is the last one, whatever the checks before it reported.
    if failed or code:
        stop(code or FOUND_A_PROBLEM)


def _passes(what: str, command: Sequence[str]) -> bool:
    notify(f"── {what}")
    return _run(command) == 0


def _all_tests() -> int:
    """Run all tests and return the first exit status that is none of success."""
    code = _in_two_processes()
    notify(f"── tests after them (pytest): {' '.join(ALONE)}")
    return _run(["-m", "pytest", *ALONE]) or code


def _in_two_processes() -> int:
    """Run the tests that need not be alone and return the first exit status that is none of success.

    The output of those that run beside the rest is shown after the rest.
    """
    with tempfile.TemporaryFile() as output:
        # In a session of its own, so that an interrupt in the terminal reaches it through us, and only once.
        beside = _started(["-m", "pytest", *BESIDE], stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = _run(["-m", "pytest", *REST])
            notify(f"── tests beside them (pytest): {' '.join(BESIDE)}")
            beside.wait()
        except BaseException:
            beside.terminate()
            raise
        finally:
            beside.wait()
            sys.stderr.flush()  # its closing line is the last one
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()
    return code or beside.returncode


def _run(command: Sequence[str]) -> int:
    """Run a module (``-m``) or a script of this environment in the repository and return its exit status.

    An interrupt reaches it from the terminal as it reaches us, and another signal is forwarded. It may then take its
    own stack down.
    """
    process = _started(command)
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


def _started(command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    first, *rest = command
    # The environment need not be on PATH; its scripts are beside its interpreter.
    started = ["-m", *rest] if first == "-m" else [str(Path(sys.executable).with_name(first)), *rest]
    return subprocess.Popen([sys.executable, *started], cwd=ROOT, env=environment, **streams)
