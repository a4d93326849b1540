"""The names of a new saga, and the changes of the modules that take it in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from baraza.skeleton import edits
from baraza.skeleton.names import named
from baraza.terminal import UsageRefusal
from stack import contract

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Pay",
        "pay bill",
        "pay-bill",
        "_pay",
        "pay_",
        "pay__bill",
        "2pay",
        "pay_2",
        "payé",
        "lambda",
        "all",
        "a" * 41,
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageRefusal, match="no name for a saga"):
        named(ROOT, name, None)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("order", "there is a saga order"),
        ("payment", "there is a saga payment"),
        ("loyalty", "there is a service loyalty"),
        ("manual_posting", "there is a saga manual_posting"),
        ("saga", "and may know no saga by name"),
        ("inventory_movement", None),
    ],
)
def test_a_name_that_has_a_meaning_already_is_refused(name: str, why: str | None) -> None:
    if why is None:
        assert named(ROOT, name, None).step == f"accept_{name}"
        return
    with pytest.raises(UsageRefusal, match=why):
        named(ROOT, name, None)


def test_a_message_that_exists_makes_a_name_taken() -> None:
    """Its step would be accept_inventory, and it would reject with inventory's own InventoryRejected."""
    with pytest.raises(UsageRefusal, match="taken: there is a service inventory"):
        named(ROOT, "inventory", None)
    with pytest.raises(UsageRefusal, match=r"there is a message baraza\.shipping\.ShipmentRejected"):
        named(ROOT, "shipment", None)


def test_without_a_service_people_order_from_it() -> None:
    assert named(ROOT, "pay_bill", None).service == contract.starters()[0]
    assert named(ROOT, "pay_bill", "loyalty").folder == ROOT / "services" / "loyalty" / "loyalty"


def test_a_service_with_a_list_of_its_modules_serves_by_a_trigger() -> None:
    with pytest.raises(UsageRefusal, match="lists every module of ledger"):
        named(ROOT, "pay_bill", "ledger")
    with pytest.raises(UsageRefusal, match="no service 'bank'; known: checkout"):
        named(ROOT, "pay_bill", "bank")


SOURCE = '''"""A module: é."""

from __future__ import annotations

from a import b

SUMS = (A_V1, B_V1)

HANDLERS: tuple[object, ...] = (
    b("é", 1),
    b(2),
)
"""Its handlers."""


def handlers(x: object) -> tuple[object, ...]:
    """Return them."""
    return (b(x),)
'''


def parts(source: str, name: str) -> int:
    """Return how many elements the tuple of that name has."""
    namespace = {"b": lambda *_: 0, "A_V1": 1, "B_V1": 2, "C_V1": 3, "MORE": (1, 2)}
    code = "\n".join(line for line in source.splitlines() if not line.startswith("from "))
    exec(compile(ast.parse(code), "source", "exec"), namespace)
    found = namespace[name]
    assert isinstance(found, tuple) or callable(found)
    return len(found if isinstance(found, tuple) else found(1))


@pytest.mark.parametrize(("name", "before"), [("HANDLERS", 2), ("handlers", 1)])
def test_an_element_more_in_a_tuple_and_nothing_else(name: str, before: int) -> None:
    changed = edits.with_element(SOURCE, name, "*MORE")
    assert parts(SOURCE, name) == before
    assert parts(changed, name) == before + 2
    assert changed.replace(", *MORE", "") == SOURCE


def test_an_element_more_beside_names_of_one_kind() -> None:
    changed = edits.with_name_beside(SOURCE, "_V1", "C_V1")
    assert "(A_V1, B_V1, C_V1)" in changed
    with pytest.raises(edits.NoSuchPlace, match="_V2"):
        edits.with_name_beside(SOURCE, "_V2", "C_V2")


def test_a_declaration_more_before_another_and_an_import_more() -> None:
    changed = edits.with_declaration(SOURCE, "\nX = 1\n", before="HANDLERS")
    assert "X = 1\n\n\nHANDLERS" in changed
    assert ast.parse(changed)
    changed = edits.with_imports(SOURCE, "import c", "import d")
    assert "from __future__ import annotations\nimport c\nimport d\n" in changed


@pytest.mark.parametrize("name", ["NOTHING", "b", "SOURCE"])
def test_a_place_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(edits.NoSuchPlace, match=name):
        edits.with_element(SOURCE, name, "1")
