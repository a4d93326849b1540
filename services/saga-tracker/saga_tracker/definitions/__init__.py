"""The definitions of all sagas, by name and version. Every other package must serve any saga and know none by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from saga_tracker.definitions.capture_later import CAPTURE_LATER_V1
from saga_tracker.definitions.collection import COLLECTION_V1
from saga_tracker.definitions.dividend_chunk import DIVIDEND_CHUNK_V1
from saga_tracker.definitions.dividend_payout import DIVIDEND_PAYOUT_V1
from saga_tracker.definitions.dividend_run import DIVIDEND_RUN_V1
from saga_tracker.definitions.dividend_wave import DIVIDEND_WAVE_V1
from saga_tracker.definitions.end_of_day import END_OF_DAY_V1
from saga_tracker.definitions.loan_disbursement import LOAN_DISBURSEMENT_V1
from saga_tracker.definitions.loan_repayment import LOAN_REPAYMENT_V1
from saga_tracker.definitions.manual_posting import MANUAL_POSTING_V1
from saga_tracker.definitions.member_onboarding import MEMBER_ONBOARDING_V1
from saga_tracker.definitions.merchant_onboarding import MERCHANT_ONBOARDING_V1
from saga_tracker.definitions.order import ORDER_V1
from saga_tracker.definitions.payment import PAYMENT_V1
from saga_tracker.definitions.payment_reversal import PAYMENT_REVERSAL_V1
from saga_tracker.definitions.receipt import RECEIPT_V1
from saga_tracker.definitions.refund import REFUND_V1
from saga_tracker.definitions.return_order import RETURN_ORDER_V1
from saga_tracker.definitions.return_receipt import RETURN_RECEIPT_V1
from saga_tracker.definitions.settlement import SETTLEMENT_V1
from saga_tracker.definitions.suspense_allocation import SUSPENSE_ALLOCATION_V1
from saga_tracker.definitions.void_payment import VOID_PAYMENT_V1
from saga_tracker.definitions.withdrawal import WITHDRAWAL_V1
from saga_tracker.model.saga import SagaDefinition

_ALL = (
    ORDER_V1,
    RETURN_ORDER_V1,
    MANUAL_POSTING_V1,
    MERCHANT_ONBOARDING_V1,
    PAYMENT_V1,
    CAPTURE_LATER_V1,
    VOID_PAYMENT_V1,
    REFUND_V1,
    PAYMENT_REVERSAL_V1,
    SETTLEMENT_V1,
    MEMBER_ONBOARDING_V1,
    COLLECTION_V1,
    RECEIPT_V1,
    SUSPENSE_ALLOCATION_V1,
    WITHDRAWAL_V1,
    LOAN_DISBURSEMENT_V1,
    LOAN_REPAYMENT_V1,
    RETURN_RECEIPT_V1,
    DIVIDEND_RUN_V1,
    DIVIDEND_CHUNK_V1,
    DIVIDEND_WAVE_V1,
    DIVIDEND_PAYOUT_V1,
    END_OF_DAY_V1,
)
DEFINITIONS: Mapping[tuple[str, int], SagaDefinition] = MappingProxyType(
    {(definition.name, definition.version): definition for definition in _ALL}
)


class UnknownSaga(LookupError):
    """No definition has that name. The text lists the known ones."""


def newest(name: str) -> SagaDefinition:
    """Return the newest version of a saga. Raises UnknownSaga."""
    versions = [definition for definition in DEFINITIONS.values() if definition.name == name]
    if not versions:
        known = ", ".join(sorted({definition.name for definition in DEFINITIONS.values()}))
        raise UnknownSaga(f"No saga is called {name!r}; known: {known}.")
    return max(versions, key=lambda definition: definition.version)
