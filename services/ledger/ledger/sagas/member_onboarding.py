"""The saga of a new member: the accounts are opened."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from ledger.model.members import OpenMemberAccounts
from messages.contract import Envelope
from messages.ledger import MemberAccountsOpened
from messages.members import MemberRegistered


def open_accounts(event: MemberRegistered, step: str) -> OpenMemberAccounts:
    """Return the accounts that a member gets."""
    return OpenMemberAccounts(saga_id=event.saga_id, step=step, member_id=event.member_id, currency=event.currency)


def opened(event: MemberRegistered, accounts: int, envelope: Envelope) -> MemberAccountsOpened:
    """Report that a member's accounts are open."""
    return MemberAccountsOpened(**envelope, member_id=event.member_id, accounts=accounts)


OPENING = SagaTrigger(
    saga="member_onboarding",
    versions=(1,),
    on=MemberRegistered,
    read=open_accounts,
    publish=opened,
    succeeds_with=MemberAccountsOpened,
)
