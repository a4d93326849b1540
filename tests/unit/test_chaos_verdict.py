"""The verdict of a chaos run over orders, returns and payments, from what the databases have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

from baraza.audit.report import Report
from baraza.audit.sources import TRACKER, Row
from baraza.chaos.load import Load
from baraza.chaos.sacco import Sacco
from baraza.chaos.session import show
from baraza.chaos.target import ChaosTarget
from baraza.chaos.verdict import Verdict, judge
from baraza.storefront.replay import Intake

SINCE = datetime(2026, 1, 2, tzinfo=UTC)


class Target:
    """Databases with these sagas (id, type, state, since when it waits) and these next queries (id, time)."""

    def __init__(self, sagas: Iterable[Row], queries: Iterable[Row]) -> None:
        self._sagas = list(sagas)
        self._queries = list(queries)
        self.messages = SimpleNamespace(unreported=list, poisons=[])
        self.violations: list[str] = []

    def query(self, query: str, *_arguments: object, service: str = TRACKER) -> list[Row]:
        if service == "shipping":
            return self._queries
        if service == "merchant":
            return [
                (saga_id.replace("saga of ", ""), saga_id) for saga_id, kind, *_ in self._sagas if kind == "payment"
            ]
        if "saga_type, state" in query:
            return [row[:3] for row in self._sagas]
        if "awaits_since" in query:
            return [
                (saga_id, "capture_or_void" if kind == "payment" else "collect_parcel", since, kind)
                for saga_id, kind, _, since in self._sagas
                if since is not None
            ]
        return []


def judged(
    sagas: Iterable[Row],
    queries: Iterable[Row] = (),
    *,
    returns: Iterable[str] = (),
    payments: Iterable[str] | None = None,
    divergences: Iterable[str] = (),
    money: Sacco | None = None,
) -> Verdict:
    paid = None
    if payments is not None:
        accepted = {f"key of {each}": each for each in payments}
        paid = SimpleNamespace(
            accepted=accepted, violations=["two of a key"], requested={"refund": 1}, refused={"refunds": 2}
        )
    load = SimpleNamespace(
        intake=Intake(),
        accepted={"key": "order-1"},
        cancellations=0,
        returns=SimpleNamespace(accepted={f"key of {each}": each for each in returns}, cancellations=2),
        payments=paid,
        sacco=money,
    )
    report = Report(findings=(), moving={}, states={})
    return judge(cast(ChaosTarget, Target(sagas, queries)), cast(Load, load), [], report, list(divergences))


ORDER = ("order-1", "order", "CONFIRMED", None)
ENDED = ("return-1", "return_order", "CONFIRMED", None)
WAITING = ("return-2", "return_order", "PENDING", SINCE)


def test_orders_and_returns_that_ended_are_counted_apart() -> None:
    verdict = judged([ORDER, ENDED], returns=["return-1"])
    assert not verdict.violations
    assert (verdict.states, verdict.return_states) == ({"CONFIRMED": 1}, {"CONFIRMED": 1})
    assert (verdict.returns, verdict.return_cancellations, verdict.lost) == (1, 2, 0)


def test_a_return_that_the_tracker_does_not_know_is_lost() -> None:
    verdict = judged([ORDER], returns=["return-1"])
    assert verdict.lost == 1
    assert verdict.violations == ["return return-1 was accepted and is unknown to the tracker"]


def test_a_return_that_waits_for_its_next_query_is_named_and_is_no_violation() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    verdict = judged([ORDER, WAITING], [("return-2", later)], returns=["return-2"])
    assert not verdict.violations
    assert [each.saga_id for each in verdict.waiting] == ["return-2"]
    written: list[str] = []
    show(verdict, written.append)
    (line,) = [line for line in written if line.startswith("WAITS")]
    assert line.startswith("WAITS  return-2 (return_order) waits for the outcome of collect_parcel since ")
    assert verdict.to_json()["waiting"][0]["query_at"] == later


def test_a_return_that_nothing_queries_for_is_a_violation() -> None:
    for queries in ([], [("return-2", SINCE)]):
        verdict = judged([ORDER, WAITING], queries, returns=["return-2"])
        (violation,) = verdict.violations
        assert violation.startswith("saga return-2 (return_order) waits for the outcome of collect_parcel")
        assert not verdict.waiting


def test_payments_are_counted_with_what_merchants_requested_of_them_and_each_problem_is_named() -> None:
    paid = ("saga of 7", "payment", "CONFIRMED", None)
    refund = ("refund-1", "refund", "CONFIRMED", None)
    verdict = judged([ORDER, paid, refund], payments=["7", "8"], divergences=["payment 7 diverges"])
    assert (verdict.payments, verdict.payment_states) == (2, {"CONFIRMED": 1})
    assert (verdict.requested, verdict.refused) == ({"refund": 1}, {"refunds": 2})
    assert verdict.operation_states == {"capture_later": {}, "void_payment": {}, "refund": {"CONFIRMED": 1}}
    assert verdict.lost == 1
    assert verdict.violations == [
        "payment 8 was accepted and is unknown to the tracker",
        "payment 7 diverges",
        "two of a key",
    ]


def test_a_payment_that_waits_is_named_with_its_saga_and_what_is_queried_next() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    verdict = judged([ORDER, ("saga of 7", "payment", "PENDING", SINCE)], [("saga of 7", later)], payments=["7"])
    written: list[str] = []
    show(verdict, written.append)
    assert any(line.startswith("WAITS  saga of 7 (payment) waits for the outcome of capture_or") for line in written)


def test_the_money_of_members_is_counted_and_a_withdrawal_that_the_tracker_does_not_know_is_lost() -> None:
    money = SimpleNamespace(
        accepted={"a": ("withdrawal", "out-1"), "b": ("collection", "in-1"), "c": ("withdrawal", "out-2")},
        violations=["two of a key"], refused={"day-limit": 1}, counts=lambda: {"withdrawal": 2, "collection": 1},
    )  # fmt: skip
    sagas = [ORDER, ("out-1", "withdrawal", "CONFIRMED", None), ("in-1", "collection", "CANCELLED", None)]
    verdict = judged(sagas, money=cast(Sacco, money))
    assert verdict.lost == 1
    assert verdict.violations == ["withdrawal out-2 was accepted and is unknown to the tracker", "two of a key"]
    assert verdict.sacco_states == {
        "receipt": {},
        "withdrawal": {"CONFIRMED": 1},
        "collection": {"CANCELLED": 1},
    }
    written: list[str] = []
    show(verdict, written.append)
    assert "Of the SACCO's members: 1 collections, 2 withdrawals; not possible: 1 day-limit" in written
