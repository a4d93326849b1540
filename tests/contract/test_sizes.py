"""A class, a function or a module that is too long has more than one reason to change.

Decorators and docstrings count. Generated message classes and migrations are left out: they are not edited by hand. A
script outside of the packages is one file on purpose; only its classes and functions are checked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from messages import generate

ROOT = Path(__file__).resolve().parents[2]
CLASS_LINES_MAX = 250
FUNCTION_LINES_MAX = 40
MODULE_LINES_MAX = 420
"""A little above the 400 that the style asks for."""

SCRIPTS = (ROOT / "k8s" / "generate.py", ROOT / "observability" / "generate.py")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def packages() -> list[Path]:
    """Return the folder of every package of the workspace."""
    manifests = [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]
    folders = {folder for manifest in manifests for folder in manifest.parent.iterdir()}
    return sorted(folder for folder in folders if (folder / "__init__.py").is_file())


def modules(package: Path) -> list[Path]:
    """Return the modules of a package that are written by hand and not migrations; a script is its own."""
    if package.is_file():
        return [package]
    generated = generate.sources()
    found = (path for path in package.rglob("*.py") if path not in generated)
    return sorted(path for path in found if "migrations" not in path.relative_to(package).parts)


def too_long(module: Path) -> Iterator[str]:
    """Yield a sentence for the module, and for each definition in it, that exceeds its limit."""
    text, name = module.read_text(), module.relative_to(ROOT)
    if (lines := len(text.splitlines())) > MODULE_LINES_MAX and module not in SCRIPTS:
        yield f"{name} has {lines} lines, more than {MODULE_LINES_MAX}."
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Definition) and (lines := length(node)) > (limit := limit_of(node)):
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines, more than {limit}."


def length(node: Definition) -> int:
    """Return the lines of a definition, from its first decorator to its end."""
    first = min((decorator.lineno for decorator in node.decorator_list), default=node.lineno)
    return (node.end_lineno or node.lineno) - first + 1


def limit_of(node: Definition) -> int:
    return CLASS_LINES_MAX if isinstance(node, ast.ClassDef) else FUNCTION_LINES_MAX


@pytest.mark.parametrize("package", [*packages(), *SCRIPTS], ids=lambda path: "-".join(path.parts[-2:]))
def test_nothing_in_a_package_is_too_long(package: Path) -> None:
    found = [sentence for module in modules(package) for sentence in too_long(module)]
    assert not found, "Split by errand, so that each piece has one reason to change:\n" + "\n".join(found)


def test_generated_modules_and_migrations_are_left_out() -> None:
    names = {path.name for package in packages() for path in modules(package) if package.name == "messages"}
    assert "contract.py" in names
    assert "checkout.py" not in names


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def short():\n" + "    pass\n" * 39, 0),
        ("def long():\n" + "    pass\n" * 40, 1),
        ("@decorated\ndef long():\n" + "    pass\n" * 39, 1),
        ("class Short:\n" + "    field = 1\n" * 249, 0),
        ("class Long:\n" + "    field = 1\n" * 250, 1),
        ("value = 1\n" * 421, 1),
    ],
)
def test_the_search_finds_what_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, found: int
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    module = tmp_path / "module.py"
    module.write_text(source)
    assert len(list(too_long(module))) == found
