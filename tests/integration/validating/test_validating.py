"""The step validate_payment on real tables: decisions, counters, and every order of redelivery and withdrawal."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.risk import PaymentBlocked, PaymentValidated
from messages.saga import FenceSaga
from risk.domain import Decision, Validations, restored
from risk.rules import OnUndecided
from risk.sagas.payment import VALIDATION, to_validate
from support.builders import a
from support.validating import PAYMENT, RiskUnderTest, submitted, withdrawal

WINDOW_S = 600


def payer() -> str:
    return f"payer-{new_id()}"


def test_a_payment_is_validated_with_the_version_of_the_rules(risk: RiskUnderTest) -> None:
    event = submitted(payer=payer(), reference="order 1", fee_minor=30, gateway_account="stripe-1")
    saga = risk.saga(event.saga_id)
    (answer,) = saga.deliver(event)
    assert isinstance(answer, PaymentValidated)
    same = ("payment_id", "merchant_id", "is_live", "currency", "amount_minor", "reference", "gateway_account",
            "capture", "fee_minor", "payment_method", "payer")  # fmt: skip
    assert [getattr(answer, name) for name in same] == [getattr(event, name) for name in same]
    assert (answer.score, answer.signals, answer.rules_version) == (0, (), "2026-11-29.1")
    assert saga.deliver(event) == []


def test_many_payments_of_one_payer_in_a_window_raise_the_score_and_then_block(risk: RiskUnderTest) -> None:
    who = payer()
    answers = [risk.submit(payer=who, after_s=second) for second in range(7)]
    assert types(answers) == ["PaymentValidated"] * 6 + ["PaymentBlocked"]
    assert [each.signals for each in answers] == [*[()] * 5, ("payer_hour",), ("payer_burst", "payer_hour")]  # type: ignore[attr-defined]
    blocked = answers[-1]
    assert isinstance(blocked, PaymentBlocked)
    assert (blocked.reason, blocked.score) == ("score", 1000)
    # A blocked payment is not counted, and minutes later the window is empty again.
    later = risk.submit(payer=who, after_s=WINDOW_S)
    assert isinstance(later, PaymentValidated)
    assert later.signals == ("payer_hour",)


def test_live_and_test_mode_and_other_payers_are_counted_apart(risk: RiskUnderTest) -> None:
    who = payer()
    for second in range(6):
        risk.submit(payer=who, after_s=second)
    assert types([risk.submit(payer=who, is_live=False, after_s=7), risk.submit(payer=payer(), after_s=7)]) == [
        "PaymentValidated",
        "PaymentValidated",
    ]


def test_a_payment_above_the_limit_of_its_currency_is_blocked(risk: RiskUnderTest) -> None:
    answer = risk.submit(payer=payer(), amount_minor=5_000_001)
    assert isinstance(answer, PaymentBlocked)
    assert (answer.reason, answer.signals[0]) == ("limit_exceeded", "limit_exceeded")
    assert "5000001 is above the limit of 5000000" in answer.detail
    exact = risk.submit(payer=payer(), amount_minor=5_000_000)
    assert isinstance(exact, PaymentValidated)


@pytest.mark.parametrize(
    ("kind", "value"), [("payer", "payer-listed"), ("merchant", "merchant-listed"), ("payment_method_type", "ach_")]
)
def test_what_is_on_a_block_list_is_blocked(risk: RiskUnderTest, kind: str, value: str) -> None:
    query = text("INSERT INTO blocks (kind, value, reason, added_by) VALUES (:kind, :value, 'stolen', 'ann')")
    with risk.engine.begin() as tx:
        tx.execute(query, {"kind": kind, "value": value})
    fields = {
        "payer": {"payer": value},
        "merchant": {"merchant_id": value, "payer": payer()},
        "payment_method_type": {"payment_method": f"{value}1", "payer": payer()},
    }
    answer = risk.submit(**fields[kind])
    assert isinstance(answer, PaymentBlocked)
    assert answer.reason == f"blocked_{kind}"
    with risk.engine.begin() as tx:
        tx.execute(text("UPDATE blocks SET removed_at = now() WHERE value = :value"), {"value": value})
    assert isinstance(risk.submit(**fields[kind]), PaymentValidated)


def test_a_withdrawn_payment_counts_no_more(risk: RiskUnderTest) -> None:
    who = payer()
    events = [submitted(payer=who, after_s=second) for second in range(6)]
    sagas = [risk.saga(event.saga_id) for event in events]
    for saga, event in zip(sagas, events, strict=True):
        saga.deliver(event)
    (answer,) = sagas[0].deliver(withdrawal(events[0]))
    assert (types([answer]), answer.undone) == (["ValidationWithdrawn"], True)  # type: ignore[attr-defined]
    again = sagas[0].deliver(withdrawal(events[0], attempt=2))
    assert [each.undone for each in again] == [False]  # type: ignore[attr-defined]
    assert isinstance(risk.submit(payer=who, after_s=8), PaymentValidated)


def test_a_withdrawal_before_its_payment_fences_it(risk: RiskUnderTest) -> None:
    event = submitted(payer=payer())
    saga = risk.saga(event.saga_id)
    (answer,) = saga.deliver(withdrawal(event))
    assert answer.undone is False  # type: ignore[attr-defined]
    assert saga.deliver(event) == []
    assert risk.rows("SELECT FROM validations WHERE payment_id = :id", id=event.payment_id) == []


def test_a_fenced_payment_is_not_counted(risk: RiskUnderTest) -> None:
    event = submitted(payer=payer())
    saga = risk.saga(event.saga_id)
    saga.deliver(a(FenceSaga, saga_id=event.saga_id, steps=("validate_payment",), **PAYMENT))
    assert saga.deliver(event) == []


ACTS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["submit", "withdraw"])), max_size=30)


@settings(max_examples=25)
@given(acts=ACTS, payers=st.lists(st.integers(0, 1), min_size=6, max_size=6))
def test_counters_are_right_in_any_order_of_redelivery_and_withdrawal(
    shared_risk: RiskUnderTest, acts: list[tuple[int, str]], payers: list[int]
) -> None:
    run = new_id()
    events = [submitted(payer=f"{run}-{payers[index]}", after_s=index * 200) for index in range(6)]
    sagas = [shared_risk.saga(event.saga_id) for event in events]
    counted: dict[int, str] = {}
    for index, act in acts:
        sagas[index].deliver(events[index] if act == "submit" else withdrawal(events[index]))
        counted[index] = counted.get(index, "fenced" if act == "withdraw" else "counted")
        if act == "withdraw":
            counted[index] = "withdrawn"
    expected = dict.fromkeys((0, 1), 0)
    for index, state in counted.items():
        expected[payers[index]] += state == "counted"
    found = {
        number: sum(
            row[0]
            for row in shared_risk.rows("SELECT payments FROM counters WHERE subject = :who", who=f"{run}-{number}")
        )
        for number in (0, 1)
    }
    assert found == expected
    shared_risk.check()


def test_two_processes_that_decide_at_once_count_each_payment_of_a_payer(risk: RiskUnderTest) -> None:
    who = payer()
    events = [submitted(payer=who, after_s=index) for index in range(12)]
    barrier, answers = Barrier(12), list[Message]()

    def work(index: int) -> None:
        barrier.wait()
        answers.extend(risk.saga(events[index].saga_id).deliver(events[index]))

    threads = [Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(types(answers)) == ["PaymentBlocked"] * 6 + ["PaymentValidated"] * 6


def test_a_restored_database_takes_over_what_was_published() -> None:
    event = submitted(payer="payer-1", amount_minor=10**9)
    published = a(PaymentValidated, **PAYMENT, saga_id=event.saga_id, score=7, signals=("payer_hour",))
    assert VALIDATION.restore is not None
    batch = Validations(rules=None, rules_version="none", on_undecided=OnUndecided.BLOCK)
    found = restored(to_validate(event, "validate_payment"), batch, VALIDATION.restore(published))
    assert isinstance(found, Decision)
    assert (found.is_blocked, found.score, found.signals) == (False, 7, ("payer_hour",))
    assert [each.decision for each in batch.decided] == [found]
