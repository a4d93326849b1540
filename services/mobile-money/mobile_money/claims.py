"""What staff claim of a row of a statement, by two persons: that it has paid a payout, or that it is booked by hand.

A payout's outcome needs such a row as evidence. A row that is none of ours, as a transfer of float, is booked by a
manual posting; with its number it is explained, and keeps no day open.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from chassis.postgres.statement import Statement
from chassis.saga import evidence
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.values.people import is_one_person
from chassis.wire.envelope import derived_id, new_id
from mobile_money import tariffs
from mobile_money.known import kept_detail
from mobile_money.lanes import SEND_PAYOUT
from mobile_money.port import Paid
from mobile_money.statements import RowKind

PAID, BOOKED = "PAID", "BOOKED"
OUT: Final = RowKind.OUT.value
POSTING: Final = "posting"
"""What a claim of a booked row names instead of a step: its id is that of a manual posting of the ledger."""

ROW: Final = Statement("""
    SELECT receipt, account, kind, completed_at, amount_minor, match FROM statement_rows
    WHERE short_code = %(short_code)s AND receipt = %(receipt)s AND account = %(account)s AND kind = %(kind)s
    FOR UPDATE
""")
PAYOUT: Final = Statement("""
    SELECT payouts.saga_id, payouts.provider, payouts.short_code, payouts.amount_minor, attempts.key
    FROM payouts
    JOIN attempts ON attempts.saga_id = payouts.saga_id AND attempts.step = 'send_payout' AND attempts.state = 'OPEN'
    WHERE payouts.saga_id = %(saga_id)s
""")
ADD: Final = Statement("""
    INSERT INTO claims (id, short_code, saga_id, step, outcome, receipt, account, kind, reason, state, proposed_by,
                        proposed_at)
    VALUES (%(id)s, %(short_code)s, %(saga_id)s, %(step)s, %(outcome)s, %(receipt)s, %(account)s, %(kind)s, %(reason)s,
            'PROPOSED', %(by)s, %(now)s)
""")
FIND: Final = Statement("""
    SELECT id, short_code, saga_id, outcome, receipt, account, kind, proposed_by, state
    FROM claims WHERE id = %(id)s FOR UPDATE
""")
DECIDE: Final = Statement("""
    UPDATE claims SET state = %(state)s, decided_by = %(by)s, decided_at = %(now)s WHERE id = %(id)s
""")
MATCH: Final = Statement("""
    UPDATE statement_rows SET match = 'MATCHED', saga_id = %(saga_id)s, reason = %(reason)s
    WHERE short_code = %(short_code)s AND receipt = %(receipt)s AND account = %(account)s AND kind = %(kind)s
        AND match = 'LISTED'
""")


class ClaimRefused(ValueError):
    """A claim that may not be. The text says why, and what to do."""


def propose(
    tx: Connection, *, saga_id: str, short_code: str, receipt: str, account: str, reason: str, by: str, now: datetime
) -> str:
    """Propose that an open payout is paid by this row, and return the claim's id. Raises ClaimRefused."""
    _checked(tx, saga_id, short_code, receipt, account)
    claim_id = new_id()
    values = {"id": claim_id, "short_code": short_code, "saga_id": saga_id, "receipt": receipt, "account": account}
    known = {"step": SEND_PAYOUT, "outcome": PAID, "kind": OUT}
    ADD.run(tx, {**values, **known, "reason": reason, "by": by, "now": now})
    return claim_id


def propose_booked(
    tx: Connection, *, posting_id: str, short_code: str, receipt: str, account: str, kind: str, reason: str, by: str,
    now: datetime,
) -> str:  # fmt: skip
    """Propose that this row is booked by a manual posting, and return the claim's id. Raises ClaimRefused."""
    _listed(tx, short_code, receipt, account, kind)
    claim_id = new_id()
    values = {"id": claim_id, "short_code": short_code, "saga_id": posting_id, "receipt": receipt, "account": account}
    known = {"step": POSTING, "outcome": BOOKED, "kind": kind}
    ADD.run(tx, {**values, **known, "reason": reason, "by": by, "now": now})
    return claim_id


def decide(tx: Connection, claim_id: str, *, is_approved: bool, by: str, now: datetime) -> None:
    """Decide about a claim as the other person; an approved one is evidence, or a match. Raises ClaimRefused."""
    rows = FIND.rows(tx, {"id": claim_id})
    if not rows or rows[0].state != "PROPOSED":
        raise ClaimRefused(f"No claim {claim_id} is proposed; read the list of those that are.")
    (claim,) = rows
    if is_one_person(claim.proposed_by, by):
        raise ClaimRefused("Who proposed a claim cannot decide about it; another person must.")
    state = "APPROVED" if is_approved else "REFUSED"
    if is_approved and claim.outcome == BOOKED:
        _listed(tx, claim.short_code, claim.receipt, claim.account, claim.kind)
        _match(tx, claim, "booked by hand, as two persons say")
    elif is_approved:
        _prove(tx, claim_id, claim.saga_id, claim.short_code, claim.receipt, claim.account, now)
        _match(tx, claim, "claimed by two persons")
    DECIDE.run(tx, {"id": claim_id, "state": state, "by": by, "now": now})


def _prove(
    tx: Connection, claim_id: str, saga_id: str, short_code: str, receipt: str, account: str, now: datetime
) -> None:
    row, payout = _checked(tx, saga_id, short_code, receipt, account)
    amount = abs(row.amount_minor)
    charge = tariffs.charge_minor(tariffs.read(tx), payout.provider, amount, row.completed_at)
    paid = Paid(receipt=receipt, amount_minor=amount, completed_at=row.completed_at, charge_minor=charge)
    detail = kept_detail(tx, payout.key, paid)
    received = Received(
        id=derived_id("claim", claim_id),
        provider=payout.provider,
        source=Source.CLERK,
        received_at=now,
        headers=(),
        body=f"claim {claim_id}".encode(),
        claim=Claim(outcome=Outcome.SUCCEEDED, key=payout.key, reference=receipt, detail=detail),
    )
    evidence.store(tx, [received])


def _match(tx: Connection, claim: Any, reason: str) -> None:
    row = {name: getattr(claim, name) for name in ("saga_id", "short_code", "receipt", "account", "kind")}
    MATCH.run(tx, {**row, "reason": reason})


def _listed(tx: Connection, short_code: str, receipt: str, account: str, kind: str) -> Any:
    """Lock a row of a statement that matches nothing, and return it."""
    rows = ROW.rows(tx, {"short_code": short_code, "receipt": receipt, "account": account, "kind": kind})
    if not rows or rows[0].match != "LISTED":
        raise ClaimRefused(
            f"No row {receipt} of the kind {kind} of the statement is without a match; import the statement first."
        )
    return rows[0]


def _checked(tx: Connection, saga_id: str, short_code: str, receipt: str, account: str) -> tuple[Any, Any]:
    row = _listed(tx, short_code, receipt, account, OUT)
    payouts = PAYOUT.rows(tx, {"saga_id": saga_id})
    if not payouts:
        raise ClaimRefused(f"The outcome of no payout {saga_id} is open.")
    if payouts[0].short_code != short_code or payouts[0].amount_minor != abs(row.amount_minor):
        raise ClaimRefused(f"The row is of {abs(row.amount_minor)} cents, the payout of {payouts[0].amount_minor}.")
    return row, payouts[0]
