"""Imports point one way, and only a definition and its handlers know a saga by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from messages.contract import name_of
from messages.saga import (
    CancellationDecided,
    CancelSaga,
    DeadlinePassed,
    FenceSaga,
    OperatorActed,
    RedriveStep,
    SagaFenced,
    StepAwaited,
    StepContradicted,
    StepRedriven,
)
from messages.standalone import STANDALONE
from proof.controls import CONTROLS
from saga_tracker.definitions import DEFINITIONS
from stack import contract
from support.services import handlers

ROOT = Path(__file__).resolve().parents[2]
COMMON = {"messages.contract", "messages.saga", "messages.catalogue", "messages.standalone"}
COMMON_NAMES = {
    *(name_of(each) for each in (CancelSaga, FenceSaga, RedriveStep, SagaFenced, StepRedriven)),
    *(name_of(each) for each in (StepAwaited, StepContradicted)),
    *(name_of(each) for each in (CancellationDecided, DeadlinePassed, OperatorActed)),
}


def package(name: str) -> Path:
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def general_modules() -> list[Path]:
    """Return every module that must serve any saga."""
    folders = [package(name) for name in ("chassis", "stack", "saga_tracker")]
    modules = [module for folder in folders for module in sorted(folder.rglob("*.py"))]
    return [module for module in modules if "definitions" not in module.parts]


def names_of_sagas() -> set[str]:
    """Return every name that belongs to one saga: its steps' and its messages'."""
    steps = {step.name for definition in DEFINITIONS.values() for step in definition.steps}
    return steps | {name_of(subject.message_type) for subject in contract.subjects()} - COMMON_NAMES


def names_in(module: Path) -> Iterator[str]:
    """Yield every name, imported module and string of a module, without its docstrings."""
    tree = ast.parse(module.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield text


def strings_in(module: Path) -> set[str]:
    """Return every string of a module."""
    constants = (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Constant))
    return {node.value for node in constants if isinstance(node.value, str)}


def test_imports_point_one_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True, no_logo=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("module", general_modules(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_general_module_knows_no_saga_by_name(module: Path) -> None:
    assert not names_of_sagas() & set(names_in(module))
    assert not {*(name for name, _ in DEFINITIONS), *contract.services()} & set(strings_in(module))
    tree = ast.parse(module.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith("messages.")} <= COMMON


def test_only_one_module_of_the_tracker_decides_so_that_a_negative_control_reaches_every_decision() -> None:
    replaced = {module.__name__ for control in CONTROLS.values() for module, _, _ in control.simulated}
    deciding = {
        f"saga_tracker.ingest.{module.stem}"
        for module in sorted((package("saga_tracker") / "ingest").glob("*.py"))
        if {"decide", "merge", "merge_all"} & set(names_in(module))
    }
    assert deciding == {name for name in replaced if name.startswith("saga_tracker.")}


NOUNS = {"collection", "payment", "receipt", "refund", "settlement", "withdrawal"}
"""Sagas that are called like what they are about, so that their names are words of every service that has one."""


def test_the_search_finds_a_name_where_there_is_one() -> None:
    names = {"handlers": "reserve_inventory", "sagas/order": "InventoryReserved"}
    for module, name in names.items():
        assert name in names_of_sagas() & set(names_in(package("inventory") / f"{module}.py"))


def package_of(service: str) -> Path:
    return package(contract.package_of(service))


@pytest.mark.parametrize("service", [each for each in contract.services() if (package_of(each) / "sagas").is_dir()])
def test_in_a_service_only_its_triggers_know_the_events_of_a_saga(service: str) -> None:
    """A step's decision, rows and calls serve every saga: they know requests, and commands with their replies.

    A service that starts a saga knows its beginning, its cancellation and its end, and each knows what it reacts to.
    """
    compensations = [each for own in handlers().values() for each in own.compensations]
    of_commands = {name_of(each) for own in compensations for each in (own.on, *own.replies)}
    others = {definition.name for definition in DEFINITIONS.values() if service != definition.started_by.OWNER}
    own = [definition for definition in DEFINITIONS.values() if service == definition.started_by.OWNER]
    ends = {name_of(end) for each in own for end in (each.started_by, each.completed_by, each.failed_by)}
    ends |= {name_of(event) for each in own for event in each.cancelled_by}
    ends |= {name_of(reaction.on) for reaction in handlers()[service].reactions}
    alone = {name_of(message_type) for message_type in STANDALONE.values()}
    events = {name_of(subject.message_type) for subject in contract.subjects()}
    forbidden = events - of_commands - COMMON_NAMES - ends - alone
    for module in package_of(service).glob("*.py"):
        assert not forbidden & set(names_in(module)), module
        assert not (others - NOUNS) & strings_in(module), module
