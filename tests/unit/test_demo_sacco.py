"""The demo of a SACCO: what its plan holds, whichever seed chose it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baraza.demo.sacco.plan import Kind, Plan, plan
from baraza.storefront.sacco.statements import days_since
from chassis.postgres.transient import utc_now
from members import references

RUN = 1_796_027_552
MONEY_IN = (Kind.PAY, Kind.REPAY)


def planned(seed: int = 1, run: int = RUN) -> Plan:
    return plan(members=60, acts=400, lines=200, seed=seed, run=run)


@settings(max_examples=20)
@given(seed=st.integers(0, 1_000), run=st.integers(1_700_000_000, 4_000_000_000))
def test_every_member_and_loan_has_a_number_and_a_phone_that_the_services_accept(seed: int, run: int) -> None:
    found = planned(seed, run)
    assert len(found.members) == len(set(found.ids)) == 100, "two lines each"
    assert len({each["phone"] for each in found.members}) == 100
    assert all(re.fullmatch(r"[A-Z0-9]{3,16}", each) and not references.is_reserved(each) for each in found.ids)
    assert all(re.fullmatch(r"2547[0-9]{8}", str(each["phone"])) for each in found.members)
    assert all(re.fullmatch(r"LN[0-9]{1,12}", loan.loan_id) for loan in found.loans)


def test_two_runs_share_no_number() -> None:
    assert not set(planned().ids) & set(planned(run=RUN + 1).ids)


def test_the_same_seed_plans_the_same_day() -> None:
    assert planned() == planned()
    assert planned(seed=2).acts != planned().acts


@pytest.mark.parametrize("seed", range(5))
def test_a_reference_names_its_member_or_loan_or_none_and_never_another_one(seed: int) -> None:
    found = planned(seed)
    own = set(found.ids) | {loan.loan_id for loan in found.loans}
    unknown = 0
    for act in found.acts:
        if act.kind not in MONEY_IN:
            continue
        named = {candidate.id for candidate in references.read(act.reference).candidates} & own
        assert named <= {act.member_id, act.loan_id}, act
        unknown += not named
    assert unknown, "some are badly typed"


def test_a_day_has_every_act_in_order_and_the_float_goes_once() -> None:
    found = planned()
    assert {act.kind for act in found.acts} == set(Kind)
    assert [act.at for act in found.acts] == sorted(act.at for act in found.acts)
    assert sum(act.kind is Kind.FLOAT_GONE for act in found.acts) == 1
    assert {act.kind for act in found.beside} == {Kind.WITHDRAW}
    numbers = [act.number for act in (*found.acts, *found.beside) if act.kind is not Kind.FLOAT_GONE]
    assert len(numbers) == len(set(numbers)), "each is a key of its own"
    evening = sum(17 / 24 <= act.at < 21 / 24 for act in found.acts)
    assert evening > len(found.acts) / 4, "people are home"


def test_a_run_over_midnight_has_two_days() -> None:
    now = utc_now().replace(hour=20, minute=59)
    assert len(days_since(now, now)) == 1
    assert len(days_since(now, now.replace(hour=21, minute=1))) == 2, "midnight in Nairobi is 21:00 UTC"
