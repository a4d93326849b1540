"""No test reads the clock where it is imported: a run of an hour would compare it with the clock at its end."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = frozenset(
    {"now", "utcnow", "utc_now", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"}
)


def evaluated_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what Python evaluates on import: of a function, its decorators and defaults alone."""
    yield node
    parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        parts = [*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)]
    for part in parts:
        yield from evaluated_on_import(part)


def clocks_read(source: str) -> list[int]:
    """Return the lines that read a clock on import."""
    calls = [node.func for node in evaluated_on_import(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")) in CLOCKS
    ]


def test_no_test_reads_the_clock_on_import() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    assert [f"{path.relative_to(TESTS)}:{line}" for path in files for line in clocks_read(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "NOW = datetime.now(UTC)",
        "class A:\n    at = utc_now()",
        "@mark.parametrize('at', [time()])\ndef f(): ...",
        "def f(at=monotonic()): ...",
        "def f(*, at=date.today()): ...",
        "later = lambda at=utc_now(): at",
    ],
)
def test_a_clock_read_on_import_is_found(source: str) -> None:
    assert len(clocks_read(source)) == 1


def test_a_clock_read_in_a_test_is_not() -> None:
    assert clocks_read("def f():\n    return datetime.now(UTC)\nlater = lambda: utc_now()") == []


def test_a_clock_read_in_a_default_that_is_a_function_is_not() -> None:
    assert clocks_read("def f(clock=lambda: utc_now()): ...") == []
