"""Decides whose a receipt is, by what its payer wrote or by the prompt that it pays; else a person decides. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from chassis.saga.triggers import StepRequest
from members import references
from members.domain import STATUS_REASONS, Account, AccountStatus, LoanState
from members.references import Candidate, Named
from members.terms import LOAN, Policies, Policy, Target, targets_of
from messages.contract import Envelope

ATTRIBUTE_RECEIPT: Final = "attribute_receipt"
"""The name of the step."""
STANDARD: Final = "standard"
"""The policy of receipts that name no member."""
LOAN_CLOSED: Final = "loan_closed"
OPEN_LOANS: Final = frozenset({LoanState.DISBURSING, LoanState.ACTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeReceipt(StepRequest):
    """A receipt that the ledger has recorded. ``collection_id`` is that of the prompt that it pays, where known."""

    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int
    completed_at: datetime
    reference: str | None
    collection_id: str | None
    payer_hash: str | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMember:
    """A member as attribution needs it. ``loans`` are the open ones, in the order in which they are paid."""

    member_id: str
    status: AccountStatus
    policy: str
    accounts: Mapping[str, AccountStatus]
    loans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLoan:
    """A loan as attribution needs it."""

    loan_id: str
    member_id: str
    state: LoanState


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCollection:
    """A prompt as attribution needs it."""

    collection_id: str
    reference: str
    member_id: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whose a receipt is and where it goes; in suspense only the reason, and whom the reference names, if anyone."""

    member_id: str | None
    policy: Policy
    targets: tuple[Target, ...] = ()
    reason: str | None = None
    collection_id: str | None = None

    @property
    def is_suspense(self) -> bool:
        """Whether a person must decide."""
        return self.reason is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAttribution:
    """What a published event holds of an attribution."""

    member_id: str | None
    policy: str
    policy_version: int
    loan_order: tuple[str, ...]
    targets: tuple[Target, ...]
    reason: str | None


@dataclass(slots=True, kw_only=True)
class Receipts:
    """What attribution reads for a batch, and what it decided, in the order of the batch."""

    policies: Policies
    members: Mapping[str, KnownMember] = field(default_factory=dict)
    loans: Mapping[str, KnownLoan] = field(default_factory=dict)
    collections: Mapping[str, KnownCollection] = field(default_factory=dict)
    by_reference: Mapping[str, KnownCollection] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    decided: list[tuple[AttributeReceipt, Attribution]] = field(default_factory=list)


def attribute(requested: AttributeReceipt, receipts: Receipts, _envelope: Envelope) -> Attribution:
    """Return whose the receipt is: by its prompt, else by its reference, else it waits."""
    found = _attributed(requested, receipts)
    receipts.decided.append((requested, found))
    return found


def restored(requested: AttributeReceipt, receipts: Receipts, published: PublishedAttribution) -> Attribution:
    """Return what was published of a receipt: its members, accounts and loans may have changed since."""
    policy = Policy(
        name=published.policy,
        version=published.policy_version,
        valid_from=requested.completed_at,
        loan_order=published.loan_order,
        targets=(),
    )
    collection = _collection_of(requested, receipts)
    found = Attribution(
        member_id=published.member_id,
        policy=policy,
        targets=published.targets,
        reason=published.reason,
        collection_id=None if collection is None else collection.collection_id,
    )
    receipts.decided.append((requested, found))
    return found


def _attributed(requested: AttributeReceipt, receipts: Receipts) -> Attribution:
    collection = _collection_of(requested, receipts)
    if collection is not None:
        return _of_collection(requested, collection, receipts)
    reading = references.read(requested.reference)
    for each in reading.candidates:
        found = _of_candidate(requested, each, receipts)
        if found is not None:
            return found
    return _suspense(requested, receipts, reading.reason)


def _collection_of(requested: AttributeReceipt, receipts: Receipts) -> KnownCollection | None:
    known = receipts.collections.get(requested.collection_id or "")
    if known is not None:
        return known
    for each in references.read(requested.reference).candidates:
        if each.kind is Named.COLLECTION and each.id in receipts.by_reference:
            return receipts.by_reference[each.id]
    return None


def _of_collection(requested: AttributeReceipt, collection: KnownCollection, receipts: Receipts) -> Attribution:
    """Return the attribution of a receipt that pays a prompt: to what the member had chosen there."""
    member = receipts.members.get(collection.member_id)
    if member is None:
        return _suspense(requested, receipts, references.UNKNOWN)
    own = collection.collection_id
    if not collection.target:
        return _to_policy(requested, member, receipts, own)
    if collection.target in Account.__members__:
        return _to_account(requested, member, collection.target, receipts, own)
    return _to_loan(requested, collection.target, receipts, own) or _suspense(requested, receipts, references.UNKNOWN)


def _of_candidate(requested: AttributeReceipt, each: Candidate, receipts: Receipts) -> Attribution | None:
    """Return the attribution of what a reference names, None where there is no such thing."""
    if each.kind is Named.LOAN:
        return _to_loan(requested, each.id, receipts)
    member = receipts.members.get(each.id)
    if member is None or each.kind is Named.COLLECTION:
        return None
    if each.account is not None:
        return _to_account(requested, member, each.account, receipts)
    return _to_policy(requested, member, receipts)


def _to_policy(
    requested: AttributeReceipt, member: KnownMember, receipts: Receipts, collection_id: str | None = None
) -> Attribution:
    policy = receipts.policies.valid(member.policy, requested.completed_at)
    targets = targets_of(policy, member.member_id, member.loans)
    return _checked(member, policy, targets, collection_id)


def _to_account(
    requested: AttributeReceipt, member: KnownMember, account: str, receipts: Receipts, collection_id: str | None = None
) -> Attribution:
    policy = receipts.policies.valid(member.policy, requested.completed_at)
    return _checked(member, policy, (Target(kind=account, owner=member.member_id),), collection_id)


def _to_loan(
    requested: AttributeReceipt, loan_id: str, receipts: Receipts, collection_id: str | None = None
) -> Attribution | None:
    """Return the attribution to a loan; what is beyond it goes to its member's savings."""
    loan = receipts.loans.get(loan_id)
    member = None if loan is None else receipts.members.get(loan.member_id)
    if loan is None or member is None:
        return None
    policy = receipts.policies.valid(member.policy, requested.completed_at)
    if loan.state not in OPEN_LOANS:
        return Attribution(member_id=member.member_id, policy=policy, reason=LOAN_CLOSED, collection_id=collection_id)
    targets = (Target(kind=LOAN, owner=loan_id), Target(kind=Account.SAVINGS, owner=member.member_id))
    return _checked(member, policy, targets, collection_id)


def _checked(member: KnownMember, policy: Policy, targets: Sequence[Target], collection_id: str | None) -> Attribution:
    """Return the attribution, in suspense where the member or an account that would receive is not ACTIVE."""
    statuses = [member.status, *(member.accounts[each.kind] for each in targets if each.kind != LOAN)]
    reason = next((STATUS_REASONS[each] for each in statuses if each is not AccountStatus.ACTIVE), None)
    return Attribution(
        member_id=member.member_id,
        policy=policy,
        targets=() if reason else tuple(targets),
        reason=reason,
        collection_id=collection_id,
    )


def _suspense(requested: AttributeReceipt, receipts: Receipts, reason: str) -> Attribution:
    policy = receipts.policies.valid(STANDARD, requested.completed_at)
    return Attribution(member_id=None, policy=policy, reason=reason)
