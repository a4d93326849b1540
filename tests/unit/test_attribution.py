"""Whose a receipt is, decided in pure code, and taken over from what was published in a restored database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from members.attribution import (
    ATTRIBUTE_RECEIPT,
    AttributeReceipt,
    Attribution,
    KnownCollection,
    KnownLoan,
    KnownMember,
    PublishedAttribution,
    Receipts,
    attribute,
    restored,
)
from members.domain import AccountStatus, LoanState
from members.terms import NoTerms, Policies, Policy, PolicyTarget, Target
from messages.contract import Envelope

AT = datetime(2026, 5, 4, 9, tzinfo=UTC)
ORDER = ("PENALTIES", "FEES", "INTEREST", "PRINCIPAL")
STANDARD = Policy(
    name="standard", version=1, valid_from=datetime(2000, 1, 1, tzinfo=UTC), loan_order=ORDER,
    targets=(PolicyTarget(kind="LOAN"), PolicyTarget(kind="SHARES", limit_minor=20_000), PolicyTarget(kind="SAVINGS")),
)  # fmt: skip
ACCOUNTS = dict.fromkeys(("SAVINGS", "DEPOSITS", "SHARES"), AccountStatus.ACTIVE)
AMINA = KnownMember(
    member_id="00123", status=AccountStatus.ACTIVE, policy="standard", accounts=ACCOUNTS, loans=("LN1", "LN2")
)
ENVELOPE = Envelope(message_id="m", saga_id="s", saga_type="receipt", saga_version=1, causation_id="c", occurred_at=AT)


def request(reference: str | None, collection_id: str | None = None) -> AttributeReceipt:
    return AttributeReceipt(
        saga_id="s", step=ATTRIBUTE_RECEIPT, provider="daraja", short_code="600100", receipt="R", currency="KES",
        amount_minor=100_000, completed_at=AT, reference=reference, collection_id=collection_id, payer_hash=None,
        recorded_at=AT,
    )  # fmt: skip


def known(member: KnownMember = AMINA) -> Receipts:
    loans = {
        "LN1": KnownLoan(loan_id="LN1", member_id="00123", state=LoanState.ACTIVE),
        "LN9": KnownLoan(loan_id="LN9", member_id="00123", state=LoanState.PAID),
    }
    return Receipts(policies=Policies(versions=(STANDARD,)), members={member.member_id: member}, loans=loans)


def decided(reference: str | None, receipts: Receipts) -> Attribution:
    return attribute(request(reference), receipts, ENVELOPE)


def test_a_policy_pays_the_oldest_loan_first_and_what_is_left_is_savings() -> None:
    found = decided("00123", known())
    assert found.targets == (
        Target(kind="LOAN", owner="LN1"),
        Target(kind="LOAN", owner="LN2"),
        Target(kind="SHARES", owner="00123", limit_minor=20_000),
        Target(kind="SAVINGS", owner="00123"),
    )


@pytest.mark.parametrize("kind", ["SHARES", "SAVINGS"])
def test_one_account_of_the_policy_that_is_closed_is_a_person_s_decision(kind: str) -> None:
    member = replace(AMINA, accounts=ACCOUNTS | {kind: AccountStatus.DORMANT})
    found = decided("00123", known(member))
    assert (found.reason, found.targets, found.member_id) == ("account_dormant", (), "00123")
    assert decided("DEP00123", known(member)).reason is None, "another account receives all the same"


def test_a_deceased_member_s_loan_waits_for_a_person() -> None:
    member = replace(AMINA, status=AccountStatus.DECEASED)
    assert decided("LN1", known(member)).reason == "member_deceased"
    assert decided("LN9", known()).reason == "loan_closed"


def test_the_prompt_decides_before_what_stands_in_the_reference() -> None:
    receipts = known()
    collection = KnownCollection(collection_id="c1", reference="C0000000000A", member_id="00123", target="DEPOSITS")
    receipts.collections = {"c1": collection}
    found = attribute(request("SHR00123", collection_id="c1"), receipts, ENVELOPE)
    assert (found.collection_id, found.targets) == ("c1", (Target(kind="DEPOSITS", owner="00123"),))


def test_a_restored_database_takes_over_what_was_published_whatever_has_changed() -> None:
    receipts = known(replace(AMINA, status=AccountStatus.BLOCKED))
    published = PublishedAttribution(
        member_id="00123", policy="standard", policy_version=7, loan_order=ORDER,
        targets=(Target(kind="DEPOSITS", owner="00123"),), reason=None,
    )  # fmt: skip
    found = restored(request("00123"), receipts, published)
    assert (found.policy.version, found.targets, found.is_suspense) == (7, published.targets, False)
    assert receipts.decided == [(request("00123"), found)]


def test_terms_that_no_one_entered_are_named() -> None:
    with pytest.raises(NoTerms, match="policy 'rural'"):
        decided("00123", known(replace(AMINA, policy="rural")))
