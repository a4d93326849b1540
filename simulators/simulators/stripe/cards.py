"""What a test payment method does, as Stripe's page for testing has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """A refusal by the issuer."""

    code: str
    decline_code: str | None = None
    message: str = "Your card was declined."


DECLINES = {
    "pm_card_visa_chargeDeclined": Decline(code="card_declined", decline_code="generic_decline"),
    "pm_card_chargeDeclined": Decline(code="card_declined", decline_code="generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Decline(code="card_declined", decline_code="insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": Decline(code="card_declined", decline_code="lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": Decline(code="card_declined", decline_code="stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": Decline(code="expired_card", message="Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": Decline(code="incorrect_cvc", message="The security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError": Decline(code="processing_error", message="Try again in a little bit."),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": Decline(
        code="card_declined", decline_code="card_velocity_exceeded"
    ),
    "pm_card_chargeCustomerFail": Decline(code="card_declined", decline_code="generic_decline"),
}
NEEDS_SHOPPER = ("pm_card_authenticationRequired", "pm_card_threeDSecure2Required")
CREATES_DISPUTE = "pm_card_createDispute"
PENDING_REFUND, FAILING_REFUND = "pm_card_pendingRefund", "pm_card_refundFail"
