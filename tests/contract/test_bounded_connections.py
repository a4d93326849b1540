"""Every connection to PostgreSQL has bounds: :mod:`chassis.postgres.bounds` says which, and why.

Without them a client that vanishes keeps its locks for two hours.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = ("chassis", "services", "stack", "cli")
"""What runs against people's databases; the proof and the tests have their own."""
OPENERS = ("psycopg.connect", "create_engine")


def opened(path: Path) -> Iterator[ast.Call]:
    """Yield every call in a module that opens a connection, or makes an engine that does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in OPENERS:
            yield node


CALLS = [
    pytest.param(call, id=f"{path.relative_to(CHECKOUT)}:{call.lineno}")
    for program in PROGRAMS
    for path in sorted((CHECKOUT / program).rglob("*.py"))
    for call in opened(path)
]


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_is_opened_with_the_bounds_of_its_kind(call: ast.Call) -> None:
    assert ".arguments" in ast.unparse(call)


def test_the_calls_that_open_connections_are_found() -> None:
    assert len(CALLS) >= 5
