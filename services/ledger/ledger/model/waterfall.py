"""How an amount is allocated: target by target in a policy's order, each by what it takes, the last one the rest. Pure.

It is all or nothing. An amount of which a part would have no target stays where it is, and a person decides.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.model.loans import NO_SPLIT, LoanPart, Split


class TargetKind(enum.StrEnum):
    """What a policy names."""

    LOAN = "LOAN"
    SHARES = "SHARES"
    DEPOSITS = "DEPOSITS"
    SAVINGS = "SAVINGS"


CODES: Final = {
    LoanPart.PENALTIES.value: "penalties",
    LoanPart.FEES.value: "loan_fees",
    LoanPart.INTEREST.value: "interest",
    LoanPart.PRINCIPAL.value: "loan",
    TargetKind.SHARES.value: "shares",
    TargetKind.DEPOSITS.value: "deposits",
    TargetKind.SAVINGS.value: "fosa",
}
"""The account of the chart for each kind of allocation."""
LOAN_KINDS: Final = frozenset(part.value for part in LoanPart)
LOAN_CLOSED: Final = "loan_closed"
ACCOUNT_CLOSED: Final = "account_closed"
OVERPAID: Final = "overpaid"
NO_TARGET: Final = "no_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place in the order. ``limit_minor`` None: as much as it takes."""

    kind: TargetKind
    owner: str
    limit_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A part of the amount. ``kind`` is one of :data:`CODES`."""

    kind: str
    owner: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated:
    """Where all of an amount goes, and what each loan takes of it."""

    allocations: tuple[Allocation, ...]
    loans: tuple[tuple[str, Split], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAllocated:
    """Why an amount stays where it is."""

    reason: str


def allocate(
    amount_minor: int,
    targets: Sequence[Target],
    *,
    takes: Callable[[str, int], Split],
    is_open: Callable[[Target], bool],
) -> Allocated | NotAllocated:
    """Return where an amount goes. ``takes`` is what a loan takes of an amount, ``is_open`` whether an account is.

    An account that is closed takes nothing, and the next target is tried. A loan takes what is due of it and its
    balance at most; named twice, it takes once.
    """
    rest = amount_minor
    allocations: list[Allocation] = []
    loans: dict[str, Split] = {}
    for target in targets:
        offered = rest if target.limit_minor is None else min(rest, target.limit_minor)
        if offered <= 0 or not is_open(target):
            continue
        if target.kind is not TargetKind.LOAN:
            allocations.append(Allocation(kind=target.kind.value, owner=target.owner, amount_minor=offered))
            rest -= offered
        elif target.owner not in loans and (split := takes(target.owner, offered)) != NO_SPLIT:
            loans[target.owner] = split
            allocations += of_loan(target.owner, split)
            rest -= split.total_minor
    if rest:
        return NotAllocated(reason=_reason(targets, has_taken=bool(allocations)))
    return Allocated(allocations=tuple(allocations), loans=tuple(loans.items()))


def of_loan(loan_id: str, split: Split) -> list[Allocation]:
    """Return the parts of a loan that are not zero, as allocations."""
    return [
        Allocation(kind=part.value, owner=loan_id, amount_minor=amount_minor)
        for part, amount_minor in split.by_part.items()
        if amount_minor
    ]


def parts_of(allocations: Iterable[Allocation]) -> dict[str, Split]:
    """Return by loan what allocations say it takes."""
    found: dict[str, dict[str, int]] = {}
    for each in allocations:
        if each.kind in LOAN_KINDS:
            amounts = found.setdefault(each.owner, {})
            amounts[each.kind] = amounts.get(each.kind, 0) + each.amount_minor
    return {
        loan_id: Split(
            penalties_minor=amounts.get(LoanPart.PENALTIES, 0),
            fees_minor=amounts.get(LoanPart.FEES, 0),
            interest_minor=amounts.get(LoanPart.INTEREST, 0),
            principal_minor=amounts.get(LoanPart.PRINCIPAL, 0),
        )
        for loan_id, amounts in found.items()
    }


def _reason(targets: Sequence[Target], *, has_taken: bool) -> str:
    if not targets:
        return NO_TARGET
    if all(each.kind is TargetKind.LOAN for each in targets):
        return OVERPAID if has_taken else LOAN_CLOSED
    return ACCOUNT_CLOSED
