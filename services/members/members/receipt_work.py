"""What begins when two persons have decided about a receipt: its assignment to a member, or its return."""

from __future__ import annotations

from sqlalchemy import Connection

from chassis.http.problem import FieldError, invalid
from members import loan_tables, terms_tables
from members.attributing import known_members
from members.attribution import OPEN_LOANS
from members.domain import Account
from members.intake import beginning
from members.receipt_tables import ProposalRow, ReceiptRow
from members.sagas.receipt import to_wire
from members.terms import LOAN, Policy, Target, targets_of
from messages.members import ReceiptAssigned, ReceiptReturnApproved


def targets(tx: Connection, receipt: ReceiptRow, member_id: str, target: str) -> tuple[Policy, tuple[Target, ...]]:
    """Return the policy of a member at a receipt's value date, and where the receipt goes. Raises Problem (422).

    Persons may assign to an account that is blocked: it does not receive silently then.
    """
    member = known_members(tx, {member_id}).get(member_id)
    if member is None:
        raise invalid([FieldError(pointer="#/member_id", detail="There is no member of this number with accounts.")])
    policy = terms_tables.load_policies(tx).valid(member.policy, receipt.completed_at)
    if not target:
        return policy, targets_of(policy, member_id, member.loans)
    if target in Account.__members__:
        return policy, (Target(kind=target, owner=member_id),)
    loan = loan_tables.load(tx, [target]).get(target)
    if loan is None or loan.member_id != member_id or loan.state not in OPEN_LOANS:
        raise invalid([FieldError(pointer="#/target", detail="The member has no such open loan; name an account.")])
    return policy, (Target(kind=LOAN, owner=target), Target(kind=Account.SAVINGS, owner=member_id))


def assigned(tx: Connection, proposal: ProposalRow, receipt: ReceiptRow) -> ReceiptAssigned:
    """Return the event that begins the allocation of a receipt to a member."""
    policy, found = targets(tx, receipt, proposal.member_id, proposal.target)
    return ReceiptAssigned(
        **beginning(proposal.proposal_id, "suspense_allocation", proposal.decided_at),
        provider=receipt.provider,
        short_code=receipt.short_code,
        receipt=receipt.receipt,
        currency=receipt.currency,
        amount_minor=receipt.amount_minor,
        completed_at=receipt.completed_at,
        member_id=proposal.member_id,
        policy=policy.name,
        policy_version=policy.version,
        loan_order=policy.loan_order,
        targets=to_wire(found),
        proposed_by=proposal.proposed_by,
        approved_by=proposal.decided_by,
        reason=proposal.reason,
        receipt_saga_id=receipt.saga_id,
    )


def returned(_tx: Connection, proposal: ProposalRow, receipt: ReceiptRow) -> ReceiptReturnApproved:
    """Return the event that begins the return of a receipt."""
    return ReceiptReturnApproved(
        **beginning(proposal.proposal_id, "return_receipt", proposal.decided_at),
        provider=receipt.provider,
        short_code=receipt.short_code,
        receipt=receipt.receipt,
        currency=receipt.currency,
        amount_minor=receipt.amount_minor,
        completed_at=receipt.completed_at,
        source=proposal.source,
        member_id=proposal.member_id,
        proposed_by=proposal.proposed_by,
        approved_by=proposal.decided_by,
        reason=proposal.reason,
        receipt_saga_id=receipt.saga_id,
    )
