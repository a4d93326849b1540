"""What happens at Stripe without a request: captures and refunds that fail, authorizations that end, disputes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulators.accounts import Account, Accounts
from simulators.gateway_records import GatewayRecords, Happening
from simulators.hooks import Happen
from simulators.records import Record
from simulators.stripe import ledger
from simulators.stripe.objects import CHARGE, DISPUTE, INTENT, REFUND, by_id, event, new


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What happens to the objects of these accounts."""

    accounts: Accounts
    seed: int

    def _account(self, record: Record) -> Account:
        account = self.accounts.named(str(record.fields["account"]))
        assert account is not None, "an account that has objects stays"
        return account

    def expire(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Cancel an intent that was not captured in time."""
        intent = by_id(records, INTENT, due.subject)
        if intent.state != "requires_capture":
            return
        ended = intent.become("canceled", amount_capturable=0, cancellation_reason="automatic", canceled_at=int(now))
        records.update(ended)
        event(records, "charge.expired", by_id(records, CHARGE, intent.text("latest_charge")), now=now, seed=self.seed)
        event(records, "payment_intent.canceled", ended, now=now, seed=self.seed)

    def capture_failed(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Take back a capture that had succeeded."""
        intent = by_id(records, INTENT, due.subject)
        charge = by_id(records, CHARGE, intent.text("latest_charge"))
        if not charge.fields.get("captured") or charge.state == "failed":
            return
        code = str(due.details.get("reason", "processing_error"))
        failed = charge.become("failed", failure_code=code)
        error = {"type": "card_error", "code": code, "message": "The network refused the capture.", "charge": charge.id}
        again = intent.become("requires_payment_method", amount_received=0, last_payment_error=error)
        records.update(failed)
        records.update(again)
        units = -charge.amount("amount_captured")
        ledger.correct(records, self._account(charge), intent, "charge_failure", charge.id, units, now)
        event(records, "charge.failed", failed, now=now, seed=self.seed)
        event(records, "payment_intent.payment_failed", again, now=now, seed=self.seed)

    def refund_succeeded(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Let a pending refund succeed."""
        refund = by_id(records, REFUND, due.subject)
        if refund.state == "pending":
            done = refund.become("succeeded")
            records.update(done)
            event(records, "refund.updated", done, now=now, seed=self.seed)

    def refund_failed(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Let a refund fail that had succeeded."""
        refund = by_id(records, REFUND, due.subject)
        if refund.state == "failed":
            return
        failed = refund.become("failed", failure_reason=due.details.get("reason", "expired_or_canceled_card"))
        charge = by_id(records, CHARGE, refund.text("charge"))
        left = charge.amount("amount_refunded") - refund.amount("amount")
        records.update(failed)
        records.update(charge.become(charge.state, amount_refunded=left))
        intent = by_id(records, INTENT, refund.text("payment_intent"))
        units = refund.amount("amount")
        ledger.correct(records, self._account(refund), intent, "refund_failure", refund.id, units, now)
        event(records, "refund.updated", failed, now=now, seed=self.seed)
        event(records, "refund.failed", failed, now=now, seed=self.seed)

    def dispute(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Take the money back for the shopper's bank."""
        intent = by_id(records, INTENT, due.subject)
        charge = by_id(records, CHARGE, intent.text("latest_charge"))
        if not charge.fields.get("captured") or charge.fields.get("disputed"):
            return
        units = charge.amount("amount_captured")
        opened = new(
            records, DISPUTE, str(charge.fields["account"]), intent.reference, "needs_response", now,
            livemode=charge.fields["livemode"], amount=units, currency=charge.text("currency"), charge=charge.id,
            payment_intent=intent.id, reason=due.details.get("reason", "fraudulent"),
        )  # fmt: skip
        records.update(charge.become(charge.state, disputed=True, dispute=opened.id))
        ledger.correct(records, self._account(charge), intent, "dispute", opened.id, -units, now)
        event(records, "charge.dispute.created", opened, now=now, seed=self.seed)

    def won(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Close a dispute for the merchant."""
        self._close(records, due, "won", now)

    def lost(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Close a dispute for the shopper."""
        self._close(records, due, "lost", now)

    def _close(self, records: GatewayRecords, due: Happening, status: str, now: float) -> None:
        intent = by_id(records, INTENT, due.subject)
        charge = by_id(records, CHARGE, intent.text("latest_charge"))
        opened = records.find(DISPUTE, charge.text("dispute"))
        if opened is None or opened.state != "needs_response":
            return
        ended = opened.become(status)
        records.update(ended)
        if status == "won":
            units = opened.amount("amount")
            ledger.correct(records, self._account(charge), intent, "dispute_reversal", opened.id, units, now)
        event(records, "charge.dispute.closed", ended, now=now, seed=self.seed)


def handlers(accounts: Accounts, seed: int) -> Mapping[str, Happen]:
    """Return what happens, by its kind."""
    later = Later(accounts=accounts, seed=seed)
    return {
        "expire": later.expire, "authorization_expired": later.expire, "capture_failed": later.capture_failed,
        "refund_succeeded": later.refund_succeeded, "refund_failed": later.refund_failed, "dispute": later.dispute,
        "dispute_won": later.won, "dispute_lost": later.lost,
    }  # fmt: skip
