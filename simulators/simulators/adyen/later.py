"""What comes out at Adyen after a request was received, and what happens without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulators.accounts import Account, Accounts
from simulators.adyen import ledger
from simulators.adyen.dialect import new_psp
from simulators.adyen.notifications import notify
from simulators.adyen.payments import HELD_S, PAYMENT
from simulators.gateway_records import GatewayRecords, Happening
from simulators.hooks import Happen
from simulators.records import Record

KINDS = ("capture", "refund", "cancel", "technical_cancel", "reversal")
CODES = {
    "capture": "CAPTURE", "refund": "REFUND", "cancel": "CANCELLATION", "technical_cancel": "TECHNICAL_CANCEL",
    "reversal": "CANCEL_OR_REFUND",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What happens to the objects of these accounts."""

    accounts: Accounts
    seed: int

    def handlers(self) -> Mapping[str, Happen]:
        """Return what happens, by its kind."""
        return {
            "authorised": self.authorised, "captured": self.captured, "refunded": self.refunded,
            "canceled": self.canceled, "reversed": self.reversed, "expire": self.expire,
            "authorization_expired": self.expire, "capture_failed": self.capture_failed,
            "capture_again": self.capture_again, "refund_failed": self.refund_failed, "dispute": self.dispute,
            "dispute_won": self.dispute_won, "dispute_lost": self.dispute_lost,
        }  # fmt: skip

    def authorised(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Tell what became of a payment whose answer was ``Received``."""
        payment = _payment(records, due.subject)
        if payment.state != "received":
            return
        reason = str(due.details.get("reason", ""))
        records.update(payment.become("refused" if reason else "authorised"))
        if not reason:
            records.schedule("expire", payment.id, now + HELD_S)
        notify(
            records, self._account(payment), "AUTHORISATION", payment, psp=payment.id, original=None, now=now,
            seed=self.seed, is_success=not reason, reason=reason,
        )  # fmt: skip

    def captured(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Capture, or tell why not. What is captured already is captured once."""
        capture, payment = _with_payment(records, due.subject)
        value, captured = capture.amount("value"), payment.amount("captured")
        refusal = capture.text("refusal")
        if capture.text("currency") != payment.text("currency"):
            refusal = refusal or "Currency of the capture differs"
        if payment.state != "authorised" and not (payment.state == "captured" and not payment.fields["is_manual"]):
            refusal = refusal or f"Payment is {payment.state}"
        elif value > payment.amount("value"):
            refusal = refusal or "Insufficient balance on payment"
        self._finish(records, capture, payment, refusal, now)
        if refusal or captured:
            return
        payment = payment.become("captured", captured=value)
        records.update(payment)
        ledger.book(records, self._account(payment), payment, "Settled", capture, value, now)
        for kind in ("capture_failed", "dispute"):
            ledger.schedule_maybe(records, kind, payment, payment.text("token"), now=now, seed=self.seed)

    def refunded(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Refund, or tell why not: never more than was captured."""
        refund, payment = _with_payment(records, due.subject)
        left, refusal = payment.amount("captured") - payment.amount("refunded"), refund.text("refusal")
        if refund.text("currency") != payment.text("currency") or refund.amount("value") > left:
            refusal = refusal or "Insufficient balance on payment"
        self._finish(records, refund, payment, refusal, now)
        if refusal:
            return
        value = refund.amount("value")
        records.update(payment.become(payment.state, refunded=payment.amount("refunded") + value))
        ledger.book(records, self._account(payment), payment, "Refunded", refund, -value, now)
        ledger.schedule_maybe(records, "refund_failed", refund, payment.text("token"), now=now, seed=self.seed)

    def canceled(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Cancel an authorization, or tell why not. What is cancelled already stays so."""
        cancel = _found(records, due.subject, KINDS)
        payment = records.find(PAYMENT, cancel.text("payment"))
        refusal = cancel.text("refusal")
        if payment is None:
            self._finish(records, cancel, cancel, refusal or "Transaction not found", now)
            return
        if payment.state not in ("authorised", "received", "canceled"):
            refusal = refusal or f"Payment is {payment.state}"
        self._finish(records, cancel, payment, refusal, now)
        if not refusal:
            records.update(payment.become("canceled"))

    def reversed(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Cancel, or refund the whole where it is captured."""
        reversal, payment = _with_payment(records, due.subject)
        refusal = "" if payment.state in ("authorised", "captured") else f"Payment is {payment.state}"
        self._finish(records, reversal, payment, refusal, now)
        if refusal:
            return
        if payment.state == "authorised":
            records.update(payment.become("canceled"))
            return
        value = payment.amount("captured") - payment.amount("refunded")
        records.update(payment.become("captured", refunded=payment.amount("captured")))
        ledger.book(records, self._account(payment), payment, "Refunded", reversal, -value, now)

    def _finish(self, records: GatewayRecords, change: Record, payment: Record, refusal: str, now: float) -> None:
        records.update(change.become("refused" if refusal else "done"))
        notify(
            records, self._account(change), CODES[change.kind], change, psp=change.id,
            original=change.text("payment") or None, now=now, seed=self.seed, is_success=not refusal, reason=refusal,
            reference=change.text("own_reference") or payment.reference,
        )  # fmt: skip

    def expire(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """End an authorization that was not captured."""
        payment = _payment(records, due.subject)
        if payment.state == "authorised":
            records.update(payment.become("expired"))
            self._tell(records, payment, "EXPIRE", payment, new_psp(), now)

    def capture_failed(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Tell that the scheme refused a capture which had succeeded."""
        payment = _payment(records, due.subject)
        if payment.state != "captured":
            return
        capture = _last(records, "capture", payment)
        value = payment.amount("captured")
        records.update(payment.become("capture_failed", captured=0, failed=value))
        ledger.book(records, self._account(payment), payment, "SettledReversed", capture, -value, now)
        reason = str(due.details.get("reason", "Capture refused by the scheme"))
        self._tell(records, payment, "CAPTURE_FAILED", capture, capture.id, now, reason)

    def capture_again(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Tell that a capture which had failed succeeded after all."""
        payment = _payment(records, due.subject)
        if payment.state != "capture_failed":
            return
        capture, value = _last(records, "capture", payment), payment.amount("failed")
        records.update(payment.become("captured", captured=value))
        ledger.book(records, self._account(payment), payment, "Settled", capture, value, now)
        self._tell(records, payment, "CAPTURE", capture, capture.id, now)

    def refund_failed(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Tell that a refund which had succeeded failed."""
        refund, payment = _with_payment(records, due.subject)
        if refund.state != "done":
            return
        value = refund.amount("value")
        records.update(refund.become("failed"))
        records.update(payment.become(payment.state, refunded=payment.amount("refunded") - value))
        ledger.book(records, self._account(payment), payment, "RefundedReversed", refund, value, now)
        reason = str(due.details.get("reason", "Refund rejected by the issuer"))
        self._tell(records, payment, "REFUND_FAILED", refund, refund.id, now, reason)

    def dispute(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Take the money back for the shopper's bank."""
        payment = _payment(records, due.subject)
        if payment.state != "captured" or payment.fields.get("dispute"):
            return
        opened = Record(
            kind="chargeback", id=new_psp(), reference=payment.reference, state="open",
            fields={"account": payment.fields["account"], "payment": payment.id, "value": payment.fields["captured"],
                    "currency": payment.fields["currency"], "own_reference": ""},
        )  # fmt: skip
        records.add(opened)
        records.update(payment.become("captured", dispute=opened.id))
        ledger.book(records, self._account(payment), payment, "Chargeback", opened, -opened.amount("value"), now)
        reason = str(due.details.get("reason", "Fraudulent"))
        self._tell(records, payment, "CHARGEBACK", opened, opened.id, now, reason)

    def dispute_won(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Give the money back that a dispute took."""
        payment, opened = self._open_dispute(records, due)
        if opened is not None:
            records.update(opened.become("won"))
            ledger.book(
                records, self._account(payment), payment, "ChargebackReversed", opened, opened.amount("value"), now
            )
            self._tell(records, payment, "CHARGEBACK_REVERSED", opened, opened.id, now)

    def dispute_lost(self, records: GatewayRecords, due: Happening, now: float) -> None:
        """Tell that a dispute is lost. Its money was taken when it began."""
        payment, opened = self._open_dispute(records, due)
        if opened is not None:
            records.update(opened.become("lost"))
            self._tell(records, payment, "PREARBITRATION_LOST", opened, opened.id, now)

    def _open_dispute(self, records: GatewayRecords, due: Happening) -> tuple[Record, Record | None]:
        payment = _payment(records, due.subject)
        opened = records.find("chargeback", payment.text("dispute"))
        return payment, None if opened is None or opened.state != "open" else opened

    def _tell(
        self, records: GatewayRecords, payment: Record, code: str, about: Record, psp: str, now: float, reason: str = ""
    ) -> None:
        """Report something that was not requested, under the payment's own reference."""
        notify(
            records, self._account(payment), code, about, psp=psp, original=payment.id, now=now, seed=self.seed,
            reason=reason, reference=payment.reference,
        )  # fmt: skip

    def _account(self, record: Record) -> Account:
        account = self.accounts.named(str(record.fields["account"]))
        assert account is not None, "an account that has objects stays"
        return account


def handlers(accounts: Accounts, seed: int) -> Mapping[str, Happen]:
    """Return what happens, by its kind."""
    return Later(accounts=accounts, seed=seed).handlers()


def _payment(records: GatewayRecords, psp: str) -> Record:
    return _found(records, psp, (PAYMENT,))


def _with_payment(records: GatewayRecords, psp: str) -> tuple[Record, Record]:
    change = _found(records, psp, KINDS)
    return change, _payment(records, change.text("payment"))


def _found(records: GatewayRecords, psp: str, kinds: tuple[str, ...]) -> Record:
    found = next((record for kind in kinds if (record := records.find(kind, psp)) is not None), None)
    assert found is not None, f"{psp} was written before it was scheduled"
    return found


def _last(records: GatewayRecords, kind: str, payment: Record) -> Record:
    done = [each for each in records.of_reference(kind, payment.reference) if each.text("payment") == payment.id]
    return next(each for each in reversed(done) if each.state == "done")
