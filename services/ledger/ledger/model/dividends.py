"""What the sagas of a dividend run ask of the ledger: to declare its total, and to post its lines in parts. Pure.

The total that was approved is set aside for the run, and each line is taken from it. So the lines that are posted are
never more than what was declared, whatever chunks come.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ledger.model.sacco_books import Done, Needs, Outcome, Rejected, SaccoBooks, SaccoRequest, entries_of, path, summed
from ledger.model.transfers import Entry, NotBooked, reference_of

DECLARE_DIVIDEND: Final = "declare_dividend"
POST_DIVIDENDS: Final = "post_dividends"
LINES_MAX: Final = 500
DECLARED_ALREADY: Final = "declared_already"


class ChunkKind(enum.StrEnum):
    """What a chunk's lines are."""

    DECLARED = "DECLARED"
    RETURNED = "RETURNED"


class Destination(enum.StrEnum):
    """Where a line goes."""

    SAVINGS = "SAVINGS"
    SHARES = "SHARES"
    MOBILE = "MOBILE"


POSTINGS: Final = {
    Destination.SAVINGS: "dividend_to_savings",
    Destination.SHARES: "dividend_to_shares",
    Destination.MOBILE: "dividend_to_mobile",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one member receives."""

    line_id: str
    member_id: str
    destination: Destination
    gross_minor: int
    tax_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareDividend(SaccoRequest):
    """Set the total of a run aside."""

    run_id: str
    currency: str
    gross_minor: int

    def needs(self) -> Needs:
        """Return the appropriation and the run's account."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=(path("appropriation", self.currency), path("dividends_declared", self.currency, self.run_id)),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Declare it, or return that too little is appropriated or that the run is declared already."""
        if books.balance(path("dividends_declared", self.currency, self.run_id)).credits:
            return Rejected(reason=DECLARED_ALREADY, detail=f"Run {self.run_id} is declared by another saga.")
        owners = {"dividends_declared": self.run_id}
        entries = entries_of("dividend_declared", {"gross": self.gross_minor}, self.currency, owners)
        return books.try_book(self.source, entries) or Done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PostDividends(SaccoRequest):
    """Post the lines of a chunk in one transfer."""

    run_id: str
    currency: str
    kind: ChunkKind
    lines: tuple[Line, ...]

    def needs(self) -> Needs:
        """Return the accounts of every line."""
        paths = {each.account for each in self._entries()}
        return Needs(own=(reference_of(self.saga_id, self.step),), paths=sorted(paths))

    def book(self, books: SaccoBooks) -> Outcome:
        """Post them. Raises NotBooked for lines that do not fit together, or are more than was declared."""
        if not 0 < len(self.lines) <= LINES_MAX:
            raise NotBooked(f"A chunk of run {self.run_id} has {len(self.lines)} lines; it has 1 to {LINES_MAX}.")
        for each in self.lines:
            if each.gross_minor != each.tax_minor + each.net_minor or min(each.tax_minor, each.net_minor) < 0:
                raise NotBooked(f"The gross of line {each.line_id} is not its tax and its net: {each}.")
        books.book(self.source, summed(self._entries()))
        return Done(fields={"lines": len(self.lines)})

    def _entries(self) -> Iterator[Entry]:
        for each in self.lines:
            owners = {"dividends_declared": self.run_id} | dict.fromkeys(
                ("dividends_payable", "fosa", "shares"), each.member_id
            )
            amounts = {"net": each.net_minor, "tax": each.tax_minor}
            if self.kind is ChunkKind.DECLARED:
                yield from entries_of(POSTINGS[each.destination], amounts, self.currency, owners)
            else:
                yield from entries_of("dividend_returned", {"net": each.net_minor}, self.currency, owners)
