"""How a loan is paid out: in parts that a provider can move, each by a saga of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from chassis.wire.envelope import derived_id
from members import loan_tables
from members.domain import SHILLING
from members.intake import beginning
from members.loan_tables import LoanRow, PartRow
from members.terms import Tariff
from messages.members import LoanApproved

SAGA_TYPE: Final = "loan_disbursement"


def parts_of(principal_minor: int, most_minor: int) -> list[int]:
    """Return the amounts of the parts of a loan: as few as may be, about equal, each in whole shillings."""
    shillings, count = principal_minor // SHILLING, -(-principal_minor // most_minor)
    even, rest = divmod(shillings, count)
    return [(even + (1 if part < rest else 0)) * SHILLING for part in range(count)]


def release_parts(
    tx: Connection, loan: LoanRow, parts: Sequence[PartRow], count: int, now: datetime
) -> list[LoanApproved]:
    """Release parts of an approved loan, and return the events that begin their payouts. ``count``: all of its parts.

    A part that failed is released again under another id, since its last payout is proven not paid.
    """
    events = []
    for part in parts:
        generation = part.generation + 1
        saga_id = derived_id("loan part", loan.loan_id, part.part, generation)
        if not loan_tables.release_part(
            tx, loan.loan_id, part.part, generation=part.generation, saga_id=saga_id, at=now
        ):
            continue
        events.append(
            LoanApproved(
                **beginning(saga_id, SAGA_TYPE, now),
                member_id=loan.member_id,
                loan_id=loan.loan_id,
                provider=loan.provider,
                short_code=loan.short_code,
                phone=loan.phone,
                currency=loan.currency,
                amount_minor=part.amount_minor,
                fee_minor=0,
                excise_minor=0,
                part=part.part,
                parts=count,
                principal_minor=loan.principal_minor,
                interest_ppm=loan.interest_ppm,
                term_months=loan.term_months,
                loan_fee_minor=loan.loan_fee_minor,
                penalty_ppm=loan.penalty_ppm,
                proposed_by=loan.proposed_by,
                approved_by=loan.approved_by,
            )
        )
    return events


def within_day(parts: Sequence[PartRow], tariff: Tariff) -> list[PartRow]:
    """Return the first parts that a phone may receive in one day; a person releases the others on later ones."""
    found, sum_minor = [], 0
    for part in parts:
        sum_minor += part.amount_minor
        if sum_minor > tariff.phone_day_max_minor:
            break
        found.append(part)
    return found
