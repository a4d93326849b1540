"""The saga of a new merchant: its accounts are opened."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from ledger.domain import OpenMerchantAccounts
from messages.contract import Envelope
from messages.ledger import MerchantAccountsOpened
from messages.merchant import MerchantRegistered


def open_accounts(event: MerchantRegistered, step: str) -> OpenMerchantAccounts:
    """Return the accounts that a merchant gets."""
    return OpenMerchantAccounts(
        saga_id=event.saga_id,
        step=step,
        merchant_id=event.merchant_id,
        currencies=tuple(event.currencies),
    )


def opened(event: MerchantRegistered, accounts: int, envelope: Envelope) -> MerchantAccountsOpened:
    """Report that a merchant's accounts are open."""
    return MerchantAccountsOpened(**envelope, merchant_id=event.merchant_id, accounts=accounts)


OPENING = SagaTrigger(
    saga="merchant_onboarding",
    versions=(1,),
    on=MerchantRegistered,
    read=open_accounts,
    publish=opened,
    succeeds_with=MerchantAccountsOpened,
)
