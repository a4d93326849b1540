"""What the step that attributes receipts reads and stores, in one transaction for a batch."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from members import collecting, loan_tables, member_tables, receipt_tables, references, request_tables, terms_tables
from members.attribution import (
    AttributeReceipt,
    Attribution,
    KnownCollection,
    KnownLoan,
    KnownMember,
    Receipts,
)
from members.domain import AccountStatus, LoanState, MemberState, ReceiptState
from members.receipt_tables import NewReceipt
from members.references import Named


def lock(requests: Sequence[AttributeReceipt], tx: Connection) -> None:
    """Lock the prompts that these receipts may pay: the reactions change the same rows."""
    ids = {each.collection_id for each in requests if each.collection_id is not None}
    request_tables.lock_collections(tx, ids, _named(requests, Named.COLLECTION))


def load(requests: Sequence[AttributeReceipt], tx: Connection) -> Receipts:
    """Load what the references of a batch name: prompts, members, loans, and the terms."""
    ids = {each.collection_id for each in requests if each.collection_id is not None}
    rows = request_tables.lock_collections(tx, ids, _named(requests, Named.COLLECTION))
    collections = {
        number: KnownCollection(
            collection_id=number, reference=row.reference, member_id=row.member_id, target=row.target
        )
        for number, row in rows.items()
    }
    targets = {each.target for each in collections.values() if each.target.startswith("LN")}
    loan_rows = loan_tables.load(tx, _named(requests, Named.LOAN) | targets)
    loans = {
        number: KnownLoan(loan_id=number, member_id=row.member_id, state=LoanState(row.state))
        for number, row in loan_rows.items()
    }
    numbers = _named(requests, Named.MEMBER) | _named(requests, Named.ACCOUNT)
    numbers |= {each.member_id for each in collections.values()} | {each.member_id for each in loans.values()}
    hints = {each.payer_hash for each in requests if each.payer_hash is not None}
    return Receipts(
        policies=terms_tables.load_policies(tx),
        members=known_members(tx, numbers),
        loans=loans,
        collections=collections,
        by_reference={each.reference: each for each in collections.values()},
        hints=member_tables.by_hash(tx, hints),
    )


def known_members(tx: Connection, numbers: set[str]) -> dict[str, KnownMember]:
    """Return the members with open accounts among these numbers."""
    rows = member_tables.load(tx, numbers)
    statuses = member_tables.statuses(tx, rows)
    loans = loan_tables.open_of(tx, rows)
    return {
        number: KnownMember(
            member_id=number,
            status=AccountStatus(row.status),
            policy=row.policy,
            accounts={kind: AccountStatus(status) for kind, status in statuses[number].items()},
            loans=tuple(loans.get(number, ())),
        )
        for number, row in rows.items()
        if row.state == MemberState.ACTIVE
    }


def save(receipts: Receipts, tx: Connection) -> None:
    """Store the receipts, on the work list where a person must decide, and what they show of their prompts."""
    receipt_tables.insert(tx, [_new(requested, found, receipts) for requested, found in receipts.decided])
    collecting.note_receipts(tx, receipts.decided)
    receipts.decided.clear()


def _new(requested: AttributeReceipt, found: Attribution, receipts: Receipts) -> NewReceipt:
    return NewReceipt(
        provider=requested.provider,
        short_code=requested.short_code,
        receipt=requested.receipt,
        saga_id=requested.saga_id,
        currency=requested.currency,
        amount_minor=requested.amount_minor,
        completed_at=requested.completed_at,
        reference=requested.reference,
        collection_id=found.collection_id,
        hint_member_id=receipts.hints.get(requested.payer_hash or ""),
        member_id=found.member_id,
        state=ReceiptState.SUSPENSE if found.is_suspense else ReceiptState.ATTRIBUTED,
        reason=found.reason,
        policy=found.policy.name,
        policy_version=found.policy.version,
        recorded_at=requested.recorded_at,
    )


def _named(requests: Sequence[AttributeReceipt], kind: Named) -> set[str]:
    """Return what the references of these receipts may name, of one kind."""
    return {
        candidate.id
        for each in requests
        for candidate in references.read(each.reference).candidates
        if candidate.kind is kind
    }
