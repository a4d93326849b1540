"""Every batch statement reaches PostgreSQL as it is pinned in ``sql/``: a changed text may get another plan.

A statement is pinned as PostgreSQL receives it, with numbered parameters, and with one line for each clause. When a
change is meant, ``.venv/bin/python tests/contract/test_sql.py`` pins it, and the diff of the pinned files is reviewed.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import psycopg

import chassis.saga
import ledger.store
import notifier.store
import reconciliation.store
import saga_tracker.store
from chassis.postgres.pipeline import Query
from chassis.postgres.statement import Statement

PINNED = Path(__file__).parent / "sql"
TABLES = (
    "checkout.tables",
    "checkout.return_tables",
    "payment.tables",
    "payment.merchants.tables",
    "payment.merchants.notices_table",
    "payment.merchants.reporting",
    "inventory.tables",
    "loyalty.tables",
    "shipping.tables",
    "notifier.tables",
    "ledger.tables",
    "risk.tables",
    "risk.rule_sets",
    "risk.lists",
    "console.tables",
    "merchant.tables",
    "merchant.key_tables",
    "merchant.merchant_tables",
    "merchant.worker_slots",
    "merchant.payment_batcher",
    "members.tables",
    "members.dividend_tables",
    "members.key_tables",
    "members.loan_tables",
    "members.member_tables",
    "members.receipt_tables",
    "members.request_tables",
    "members.terms_tables",
    "members.measures",
    "reconciliation.tables",
    "bench_providers.gateway.tables",
    "bench_providers.courier.tables",
    "bench_providers.mobile_money.tables",
)
CLAUSE = re.compile(
    r" (?=(?:FROM|SET|WHERE|SELECT|ON CONFLICT|DO UPDATE|ORDER BY|LIMIT|FOR UPDATE|RETURNING|INSERT INTO) )"
)
"""Where a pinned statement begins a new line, so that a difference can be read."""
DIALECT = psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no annotations


def modules() -> Iterator[ModuleType]:
    """Yield every module that may hold statements of a batch."""
    for package in (chassis.saga, saga_tracker.store, ledger.store, notifier.store, reconciliation.store):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)
    for name in TABLES:
        yield importlib.import_module(name)


def sql_of(statement: Statement | TextClause) -> str:
    """Return a statement as PostgreSQL receives it, with a line for each clause."""
    written = statement.text if isinstance(statement, Statement) else str(statement.compile(dialect=DIALECT))
    folded = re.sub(r"\s+", " ", Query(written).sql.decode()).strip()
    return CLAUSE.sub("\n", folded.replace("( ", "(").replace(" )", ")"))


def statements_of(module: ModuleType) -> str:
    """Return the statements of a module in the order of their definition, each behind its name."""
    found = [
        f"-- {name}\n{sql_of(value)};\n"
        for name, value in vars(module).items()
        if isinstance(value, Statement | TextClause)
    ]
    return "\n".join(found)


def current() -> dict[str, str]:
    """Return the statements of every module that has some, by the module's name."""
    found = {module.__name__: statements_of(module) for module in modules()}
    return {name: statements for name, statements in found.items() if statements}


def pin() -> None:
    """Replace the pinned files by what the modules hold now."""
    for path in PINNED.glob("*.sql"):
        path.unlink()
    for name, statements in current().items():
        (PINNED / f"{name}.sql").write_text(statements)


@pytest.mark.parametrize("name", sorted(current()))
def test_the_statements_of_a_module_are_the_pinned_ones(name: str) -> None:
    pinned = PINNED / f"{name}.sql"
    assert pinned.exists(), f"{name} has statements that are not pinned; see the head of {Path(__file__).name}"
    assert current()[name] == pinned.read_text(), (
        f"The statements of {name} differ from the pinned ones. If that is meant, run "
        f"`.venv/bin/python tests/contract/{Path(__file__).name}` and review the diff of {pinned.parent.name}/."
    )


def test_every_pinned_file_belongs_to_a_module_that_has_statements() -> None:
    assert {path.stem for path in PINNED.glob("*.sql")} == set(current())


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_a_statement_is_a_constant_of_its_module_so_that_no_value_gets_into_its_text(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    calls = [node.func for each in functions for node in ast.walk(each) if isinstance(node, ast.Call)]
    named = [vars(module).get(call.id) for call in calls if isinstance(call, ast.Name)]
    assert Statement not in named
    assert text not in named


if __name__ == "__main__":
    pin()
