"""Writes the files of a new saga, and runs the generators. It must never replace a file that it would create."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from baraza.skeleton import edits, modules, schemas
from baraza.skeleton.names import Names
from baraza.terminal import Refusal
from bench_providers import SUBSTITUTES

GENERATED_WITHIN_S = 120
ERROR_LINES = 5


def write(names: Names) -> list[Path]:
    """Write everything and return the files that are new or changed, without the generated ones. Raises Refusal."""
    new = {**schemas.texts(names), **modules.new_files(names)}
    diagram = names.root / "docs" / "generated" / f"{names.saga}.mmd"
    if existing := [path for path in (*new, diagram) if path.exists()]:
        raise Refusal(
            f"{existing[0].relative_to(names.root)} exists, and is not replaced. Remove it, or choose another name."
        )
    texts = {**new, **_package(names), **_changed(names)}
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    _generate(names, [path for path in texts if path.suffix == ".py"], diagram)
    return sorted(texts)


def _package(names: Names) -> dict[Path, str]:
    """Return the package of the service's triggers, where there is none."""
    file = names.folder / "sagas" / "__init__.py"
    text = f'"""The sagas that {names.service} serves: what triggers its steps there, and what it publishes. Pure."""\n'
    return {} if file.exists() else {file: text}


def _changed(names: Names) -> dict[Path, str]:
    """Return the new text of each file that there is. Raises Refusal where one is not as it is expected to be."""
    definitions = names.root / "services" / "saga-tracker" / "saga_tracker" / "definitions" / "__init__.py"
    handlers = names.folder / "handlers.py"
    try:
        found = {definitions: _defined(definitions, names), handlers: _handled(handlers, names)}
        if substitute := SUBSTITUTES.get(names.service):
            file = names.root.joinpath("bench", *substitute.split("."), "handlers.py")
            if file.exists():  # else it runs the service's own handlers
                found[file] = _substituted(file, names)
    except edits.NoSuchPlace as error:
        raise Refusal(
            f"The modules are not as this command knows them ({error}); follow docs/sagas.md by hand."
        ) from error
    return found


def _defined(file: Path, names: Names) -> str:
    name = f"{names.constant}_V1"
    source = edits.with_name_beside(file.read_text(), "_V1", name)
    return edits.with_imports(source, f"from saga_tracker.definitions.{names.saga} import {name}")


def _handled(file: Path, names: Names) -> str:
    source = file.read_text()
    collection = "HANDLERS" if "\nHANDLERS" in source else "handlers"
    source = edits.with_element(source, collection, f"*{names.constant}")
    source = edits.with_declaration(source, modules.filled(modules.HANDLERS, names), before=collection)
    return edits.with_imports(source, *modules.filled(modules.HANDLER_IMPORTS, names).splitlines())


def _substituted(file: Path, names: Names) -> str:
    """The benchmark's provider runs in the place of the service, and serves the same steps."""
    source = edits.with_element(file.read_text(), "HANDLERS", f"*{names.constant}")
    return edits.with_imports(source, f"from {names.package}.handlers import {names.constant}")


def _generate(names: Names, written: list[Path], diagram: Path) -> None:
    """Run the generators, each in a process that has the new files, and give the modules the repository's style."""
    paths = [str(path) for path in written]
    _run(names, "-m", "messages.generate")
    _run(names, "-m", "ruff", "check", "--quiet", "--fix", "--select", "I", *paths)
    _run(names, "-m", "ruff", "format", "--quiet", *paths)
    diagram.write_text(_run(names, "-m", "baraza", "saga", "show", names.saga, "--mermaid"))
    (diagram.parent / "asyncapi.json").write_text(_run(names, "-m", "baraza", "schemas", "asyncapi"))
    _run(names, str(names.root / "k8s" / "generate.py"))


def _run(names: Names, *arguments: str) -> str:
    """Run Python on the checkout and return what it printed. Raises Refusal."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _sources(names.root)))}
    done = subprocess.run(
        [sys.executable, "-s", "-P", *arguments], cwd=names.root, env=environment, capture_output=True, text=True,
        timeout=GENERATED_WITHIN_S, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).rstrip().splitlines()[-ERROR_LINES:])
        raise Refusal(
            f"The files of {names.saga} are written, and `git status` lists them, "
            f"but {' '.join(arguments[:2])} failed:\n{tail}"
        )
    return done.stdout


def _sources(root: Path) -> Iterator[Path]:
    """Yield the folders of the checkout's packages."""
    for member in (*root.glob("*/pyproject.toml"), *root.glob("services/*/pyproject.toml")):
        yield member.parent
