"""A ledger in memory that computes every balance from its list of transfers, for comparison with the real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ledger.model.transfers import Entry, Transfer, TransferKind


@dataclass(slots=True, kw_only=True)
class NaiveLedger:
    """Accounts are debit-increased or credit-increased, with a floor or a ceiling; ``booked`` is in order."""

    credit_increased: frozenset[str]
    floors: dict[str, int]
    ceilings: dict[str, int]
    booked: list[Transfer] = field(default_factory=list)

    def book(self, transfer: Transfer) -> str:
        """Return what becomes of a request, by the name of its reason."""
        for earlier in self.booked:
            if earlier.reference == transfer.reference:
                return "REPEATED" if self._full(earlier) == self._full(transfer) else "REFERENCE_IN_USE"
        hold = next((each for each in self._holds() if each.reference == transfer.of), None)
        if transfer.kind.resolves:
            if hold is None:
                return "HOLD_UNKNOWN"
            if any(each.kind.resolves and each.of == hold.reference for each in self.booked):
                return "HOLD_RESOLVED"
        if transfer.kind is TransferKind.POST and hold is not None:
            posted, held = self._by_side(self._entries(transfer)), self._by_side(hold.entries)
            if any(amount > held[side] for side, amount in posted.items()):
                return "HOLD_EXCEEDED"
        before = {path: (self.available(path), self.expected(path)) for path in self._limited()}
        self.booked.append(transfer)
        reason = self._broken(before)
        if reason is not None:
            self.booked.pop()
        return reason or "BOOKED"

    def totals(self, path: str) -> tuple[int, int, int, int]:
        """Return posted debits and credits, held debits and credits."""
        resolved = {each.of for each in self.booked if each.kind.resolves}
        sums = [0, 0, 0, 0]
        for each in self.booked:
            offset = 2 if each.kind is TransferKind.HOLD else 0
            if each.kind is TransferKind.HOLD and each.reference in resolved:
                continue
            for entry in self._entries(each):
                if entry.account == path:
                    sums[offset + (entry.amount_minor < 0)] += abs(entry.amount_minor)
        return sums[0], sums[1], sums[2], sums[3]

    def available(self, path: str) -> int:
        debits, credits_, held_debits, held_credits = self.totals(path)
        return credits_ - debits - held_debits if path in self.credit_increased else debits - credits_ - held_credits

    def expected(self, path: str) -> int:
        debits, credits_, held_debits, held_credits = self.totals(path)
        return credits_ - debits + held_credits if path in self.credit_increased else debits - credits_ + held_debits

    def _broken(self, before: dict[str, tuple[int, int]]) -> str | None:
        for path, floor in self.floors.items():
            if self.available(path) < min(floor, before[path][0]):
                return "INSUFFICIENT_FUNDS"
        for path, ceiling in self.ceilings.items():
            if self.expected(path) > max(ceiling, before[path][1]):
                return "LIMIT_EXCEEDED"
        return None

    def _limited(self) -> set[str]:
        return {*self.floors, *self.ceilings}

    def _holds(self) -> Iterator[Transfer]:
        return (each for each in self.booked if each.kind is TransferKind.HOLD)

    def _entries(self, transfer: Transfer) -> tuple[Entry, ...]:
        if transfer.kind is not TransferKind.POST or transfer.entries:
            return transfer.entries
        return next(each.entries for each in self._holds() if each.reference == transfer.of)

    def _full(self, transfer: Transfer) -> tuple[object, ...]:
        return transfer.kind, transfer.of, Counter(self._entries(transfer))

    @staticmethod
    def _by_side(entries: tuple[Entry, ...]) -> Counter[tuple[str, bool]]:
        found: Counter[tuple[str, bool]] = Counter()
        for entry in entries:
            found[(entry.account, entry.amount_minor > 0)] += abs(entry.amount_minor)
        return found
