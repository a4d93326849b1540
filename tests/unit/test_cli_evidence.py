"""``baraza evidence``: whose evidence it reads, and what it shows of it."""

from __future__ import annotations

from baraza.commands.evidence import _table, services

PIECE = {
    "id": "e1", "service": "shipping", "received_at": "t", "provider": "courier", "outcome": None, "reference": "COL_1",
    "key": "k", "provider_id": "courier:COL_1", "matches": 3, "closed_at": "u", "closed_by": "ops",
    "closed_reason": "r",
}  # fmt: skip


def test_the_services_with_steps_whose_outcome_comes_later_are_read() -> None:
    assert services() == ["shipping", "payment", "mobile-money"]


def test_a_row_has_a_value_for_each_title() -> None:
    for are_closed in (False, True):
        titles, (row,) = _table([PIECE], are_closed=are_closed)
        assert len(titles) == len(row)
    assert row[-3:] == ("u", "ops", "r")
