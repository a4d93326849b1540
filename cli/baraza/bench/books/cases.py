"""The transfers of each case: uniform, a hot source, a hot destination, both hot; with limits, and with lanes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chassis.wire.envelope import new_id
from ledger.model.transfers import Entry, Transfer

MEMBERS: Final = 10_000
CURRENCY: Final = "KES"
AMOUNT_MINOR: Final = 5
MEMBER_FUNDS_MINOR: Final = 10**12
HOT_FUNDS_MINOR: Final = 10**17
FUNDING: Final = f"sacco:bank:{CURRENCY}"
HOT: Final = (f"sacco:fosa:hot-1:{CURRENCY}", f"sacco:fosa:hot-2:{CURRENCY}")
"""Accounts with a limit, and so with one balance row."""
LANED: Final = (f"sacco:unallocated:{CURRENCY}", f"sacco:fees_held:{CURRENCY}")
"""Accounts without a limit, and so with several balance rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. ``source`` pays and ``target`` is paid; None is any member, another one for each transfer."""

    name: str
    source: str | None = None
    target: str | None = None

    def transfers(self, chance: random.Random) -> Iterator[Transfer]:
        """Yield transfers without an end, each under a reference of its own."""
        while True:
            payer, payee = chance.sample(range(MEMBERS), 2)
            debit, credit = self.source or member(payer), self.target or member(payee)
            entries = Entry(debit, AMOUNT_MINOR, CURRENCY), Entry(credit, -AMOUNT_MINOR, CURRENCY)
            yield Transfer(reference=new_id(), entries=entries)


def member(number: int) -> str:
    """Return the path of a member's account, which may not go below zero."""
    return f"sacco:fosa:m{number}:{CURRENCY}"


CASES: Final = (
    Case(name="uniform"),
    Case(name="hot_source", source=HOT[0]),
    Case(name="hot_destination", target=HOT[1]),
    Case(name="hot_both", source=HOT[0], target=HOT[1]),
    Case(name="hot_source_lanes", source=LANED[0]),
    Case(name="hot_destination_lanes", target=LANED[1]),
    Case(name="hot_both_lanes", source=LANED[0], target=LANED[1]),
)
BY_NAME: Final = {case.name: case for case in CASES}
