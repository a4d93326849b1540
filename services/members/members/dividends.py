"""Computes the lines of a dividend run: pro rata by month, less tax, each to its destination. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from members.domain import SHILLING, AccountStatus
from members.terms import PPM, rounded

MONTHS: Final = 12
DIVIDEND, REBATE = "DIVIDEND", "REBATE"
KIND_OF: Final = {"SHARES": DIVIDEND, "DEPOSITS": REBATE}
"""A dividend is on shares, a rebate is interest on deposits."""
SAVINGS, SHARES, MOBILE = "SAVINGS", "SHARES", "MOBILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of a run and the limits of a payout."""

    dividend_ppm: int
    rebate_ppm: int
    dividend_tax_ppm: int
    rebate_tax_ppm: int
    payout_min_minor: int
    payout_max_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a member held of a kind: each amount times the months that it earns, 12 for what was there before."""

    member_id: str
    kind: str
    amount_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """Where a member wants dividends, and the member's status."""

    destination: str
    status: AccountStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one member receives of a run for one kind."""

    line_id: str
    member_id: str
    kind: str
    destination: str
    gross_minor: int
    tax_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The sums of a run's lines, and the hash that persons approve."""

    line_count: int
    gross_minor: int
    tax_minor: int
    net_minor: int
    lines_sha256: str


def lines_of(run_id: str, rates: Rates, held: Iterable[Held], payees: Mapping[str, Payee]) -> list[Line]:
    """Return the lines in the order of their ids. Equal lines are legitimate: a line is known by its id alone."""
    found = []
    for each in held:
        payee = payees.get(each.member_id)
        line = None if payee is None else _line(run_id, rates, each, payee)
        if line is not None:
            found.append(line)
    return sorted(found, key=lambda line: line.line_id)


def line_id_of(run_id: str, member_id: str, kind: str) -> str:
    """Return the id of a line: never a phone and an amount, which two lines may share."""
    return f"{run_id}:{member_id}:{kind}"


def _line(run_id: str, rates: Rates, held: Held, payee: Payee) -> Line | None:
    kind = KIND_OF[held.kind]
    rate_ppm, tax_ppm = (
        (rates.dividend_ppm, rates.dividend_tax_ppm) if kind == DIVIDEND else (rates.rebate_ppm, rates.rebate_tax_ppm)
    )
    gross_minor = held.amount_months * rate_ppm // (MONTHS * PPM)
    destination = payee.destination if payee.status is AccountStatus.ACTIVE else SAVINGS
    if destination == MOBILE:
        whole = _whole(gross_minor, tax_ppm)
        net_minor = whole - _tax(whole, tax_ppm)
        if rates.payout_min_minor <= net_minor <= rates.payout_max_minor:
            gross_minor = whole
        else:
            destination = SAVINGS
    tax_minor = _tax(gross_minor, tax_ppm)
    if gross_minor - tax_minor <= 0:
        return None
    return Line(
        line_id=line_id_of(run_id, held.member_id, kind),
        member_id=held.member_id,
        kind=kind,
        destination=destination,
        gross_minor=gross_minor,
        tax_minor=tax_minor,
        net_minor=gross_minor - tax_minor,
    )


def _tax(gross_minor: int, tax_ppm: int) -> int:
    return rounded(gross_minor * tax_ppm, PPM)


def _whole(gross_minor: int, tax_ppm: int) -> int:
    """Return the largest gross amount up to this one of which whole shillings are left, as a provider pays them.

    One cent less of gross is at most one cent less of net, so it is near; 0 where there is none.
    """
    while gross_minor > 0 and (gross_minor - _tax(gross_minor, tax_ppm)) % SHILLING:
        gross_minor -= 1
    return max(gross_minor, 0)


def totals_of(lines: Sequence[Line]) -> Totals:
    """Return the sums of lines, and their hash."""
    return Totals(
        line_count=len(lines),
        gross_minor=sum(line.gross_minor for line in lines),
        tax_minor=sum(line.tax_minor for line in lines),
        net_minor=sum(line.net_minor for line in lines),
        lines_sha256=hash_of(lines),
    )


def hash_of(lines: Iterable[Line]) -> str:
    """Return the hash of lines in their canonical form: one row of text for each, in the order of their ids."""
    digest = hashlib.sha256()
    for line in sorted(lines, key=lambda each: each.line_id):
        row = (
            line.line_id,
            line.member_id,
            line.kind,
            line.destination,
            line.gross_minor,
            line.tax_minor,
            line.net_minor,
        )
        digest.update(("|".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()
