"""``baraza saga new`` in a copy of the checkout: what it writes passes every rule that a saga must keep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", ".baraza", "__pycache__", ".*_cache")
WITHIN_S = 600
SAGAS = {"pay_bill": (), "hire_van": ("--service", "shipping")}
"""Of one the service is the default; of the other a provider of the benchmark may run in its place."""
RULES = (
    "tests/contract/test_saga_closure.py", "tests/contract/test_schemas.py", "tests/contract/test_imports.py",
    "tests/contract/test_asyncapi.py", "tests/contract/test_docs.py", "tests/unit/test_definitions.py",
    "tests/unit/test_rehearsal.py",
)  # fmt: skip

pytestmark = pytest.mark.timeout(WITHIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A copy of the checkout, whose packages come before the installed ones."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy."""
        members = [*self.root.glob("*/pyproject.toml"), *self.root.glob("services/*/pyproject.toml")]
        sources = os.pathsep.join(str(member.parent) for member in members)
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env={**os.environ, "PYTHONPATH": sources},
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip

    def new(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``baraza saga new``."""
        return self.run("-m", "baraza", "saga", "new", *arguments)

    def files(self) -> dict[Path, str]:
        """Return the text of every file that may be written."""
        kinds = ("*.py", "*.avsc", "*.mmd", "*.json", "*.yaml")
        return {path: path.read_text() for kind in kinds for path in self.root.rglob(kind)}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = tmp_path_factory.mktemp("checkout") / "copy"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    return Checkout(root=root)


@pytest.fixture(scope="module")
def checkout(before: Checkout) -> Checkout:
    """The copy with two new sagas."""
    for name, options in SAGAS.items():
        ended = before.new(name, *options)
        assert ended.returncode == 0, ended.stderr
        assert f"tests/unit/test_{name}.py" in ended.stdout.splitlines()
        assert "docs/sagas.md" in ended.stderr
    return before


def test_a_new_saga_keeps_every_rule(checkout: Checkout) -> None:
    ended = checkout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *RULES)
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr


@pytest.mark.parametrize("name", SAGAS)
def test_the_test_that_it_writes_passes(checkout: Checkout, name: str) -> None:
    ended = checkout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/unit/test_{name}.py")
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr
    shown = checkout.run("-m", "baraza", "saga", "show", name)
    assert f"accept_{name}" in shown.stdout


def test_what_it_writes_has_the_repositorys_style(checkout: Checkout) -> None:
    for arguments in (("check", "--no-cache", "."), ("format", "--no-cache", "--check", ".")):
        ended = checkout.run("-m", "ruff", *arguments)
        assert ended.returncode == 0, ended.stdout


def test_a_broken_step_fails_the_test_that_it_writes(checkout: Checkout) -> None:
    """The test is one that can fail: here the step accepts what it must reject."""
    (module,) = checkout.root.glob("services/*/*/pay_bill_step.py")
    written = module.read_text()
    try:
        module.write_text(written.replace("request.amount <= 0", "request.amount < 0"))
        ended = checkout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_pay_bill.py")
    finally:
        module.write_text(written)
    assert ended.returncode == 1, ended.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("pay_bill",), 2, "there is a saga pay_bill"),
        (("order",), 2, "there is a saga order"),
        (("Pay-Bill",), 2, "no name for a saga"),
        (("pay_rent", "--service", "bank"), 2, "no service 'bank'; known: checkout"),
    ],
)
def test_a_refused_name_changes_nothing(checkout: Checkout, arguments: tuple[str, ...], status: int, why: str) -> None:
    files = checkout.files()
    ended = checkout.new(*arguments)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert why in ended.stderr
    assert checkout.files() == files


def test_a_file_that_is_there_is_not_replaced(checkout: Checkout) -> None:
    own = checkout.root / "tests" / "unit" / "test_pay_rent.py"
    own.write_text('"""Mine."""\n')
    files = checkout.files()
    ended = checkout.new("pay_rent")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "tests/unit/test_pay_rent.py exists, and is not replaced" in ended.stderr
    assert checkout.files() == files
    own.unlink()
