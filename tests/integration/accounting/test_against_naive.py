"""Whatever is requested, in whatever batches, again, after crashes: the ledger does what a naive one in memory does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chassis.postgres.transient import utc_now
from ledger.model.transfers import Entry, Transfer, TransferKind
from ledger.store.booking import book
from support.ledgers import FUNDING, LedgerUnderTest, kinds, member, moved, reference
from support.naive_ledger import NaiveLedger

EXAMPLES, STEPS = 40, 30
CEILING = 500
FUNDS = (1_000, 300, 0, 500)
"""What the four accounts begin with."""
EXPECTED = {
    "BOOKED",
    "REPEATED",
    "INSUFFICIENT_FUNDS",
    "LIMIT_EXCEEDED",
    "HOLD_RESOLVED",
    "HOLD_EXCEEDED",
    "HOLD_UNKNOWN",
}
"""What becomes of requests in every run of the test; without one of them it would compare too little."""
AMOUNTS = st.one_of(st.integers(0, 20), st.integers(0, 1_200))
PAIRS = st.permutations(range(4)).map(lambda order: order[:2])


class Crash(Exception):
    """Ends a transaction before its commit."""


class Comparison(RuleBasedStateMachine):
    """Requests are gathered, and booked as one batch or one by one. ``under_test`` is set by the test."""

    under_test: LedgerUnderTest
    seen: set[str]

    @initialize()
    def open(self) -> None:
        strict, capped = member(reference()), member(reference())
        free = f"sacco:member_receivable:{reference()}:KES"
        self.under_test.open(strict, free)
        self.under_test.open(capped, ceiling_minor=CEILING)
        self.paths = [strict, capped, free, f"sacco:shares:{reference()}:KES"]
        self.under_test.open(self.paths[3])
        self.naive = NaiveLedger(
            credit_increased=frozenset({strict, capped, self.paths[3]}),
            floors={strict: 0, capped: 0, self.paths[3]: 0},
            ceilings={capped: CEILING},
        )
        self.gathered: list[Transfer] = []
        self.requested: list[Transfer] = []
        for to, amount_minor in enumerate(FUNDS):
            self.fund(to, amount_minor)
        self._request_one_of_each()

    def _request_one_of_each(self) -> None:
        """Request what the rules seldom find: a post of more than is held, two ends of a hold, the end of none."""
        for amount_minor, posted in ((5, 6), (5, 5), (FUNDS[0] + 1, 1)):
            hold = Transfer(
                reference=reference(),
                kind=TransferKind.HOLD,
                entries=moved(self.paths[0], self.paths[2], amount_minor),
            )
            entries = moved(self.paths[0], self.paths[2], posted)
            post = Transfer(reference=reference(), kind=TransferKind.POST, of=hold.reference, entries=entries)
            void = Transfer(reference=reference(), kind=TransferKind.VOID, of=hold.reference)
            for each in (hold, post, void):
                self._request(each)

    def _request(self, transfer: Transfer) -> None:
        self.gathered.append(transfer)
        self.requested.append(transfer)

    @rule(pair=PAIRS, amount_minor=AMOUNTS, kind=st.sampled_from([TransferKind.TRANSFER, TransferKind.HOLD]))
    def move(self, pair: list[int], amount_minor: int, kind: TransferKind) -> None:
        debit, credit = (self.paths[index] for index in pair)
        self._request(Transfer(reference=reference(), kind=kind, entries=moved(debit, credit, amount_minor)))

    @rule(to=st.integers(0, 3), amount_minor=AMOUNTS)
    def fund(self, to: int, amount_minor: int) -> None:
        self._request(Transfer(reference=reference(), entries=moved(FUNDING, self.paths[to], amount_minor)))

    @rule(
        shares=st.lists(AMOUNTS, min_size=1, max_size=3),
        kind=st.sampled_from([TransferKind.TRANSFER, TransferKind.HOLD]),
    )
    def split(self, shares: list[int], kind: TransferKind) -> None:
        parts = tuple(Entry(self.paths[index], -share, "KES") for index, share in enumerate(shares, 1))
        entries = (Entry(self.paths[0], sum(shares), "KES"), *parts)
        self._request(Transfer(reference=reference(), kind=kind, entries=entries))

    @rule(data=st.data(), is_void=st.booleans(), less=st.sampled_from([None, 0, 1, 40, -1, -3]))
    def resolve(self, data: st.DataObject, is_void: bool, less: int | None) -> None:
        holds = [each for each in self.requested if each.kind is TransferKind.HOLD]
        if not holds:
            return
        hold = data.draw(st.sampled_from(holds[-2:]))
        entries: tuple[Entry, ...] = ()
        if not is_void and less is not None and len(hold.entries) == 2:
            amount_minor = max(0, hold.entries[0].amount_minor - less)
            entries = moved(hold.entries[0].account, hold.entries[1].account, amount_minor)
        kind = TransferKind.VOID if is_void else TransferKind.POST
        self._request(Transfer(reference=reference(), kind=kind, of=hold.reference, entries=entries))

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.requested:
            self.gathered.append(data.draw(st.sampled_from(self.requested)))

    @rule()
    def book_together(self) -> None:
        self._compare(lambda gathered: kinds(self.under_test.book(*gathered)))

    @rule()
    def book_one_by_one(self) -> None:
        self._compare(lambda gathered: [kind for each in gathered for kind in kinds(self.under_test.book(each))])

    @rule()
    def crash_before_the_commit(self) -> None:
        with pytest.raises(Crash):
            self._book_and_crash()

    def _book_and_crash(self) -> None:
        with self.under_test.engine.begin() as tx:
            book(self.gathered, tx, now=utc_now())
            raise Crash

    def _compare(self, book_all: Callable[[list[Transfer]], list[Any]]) -> None:
        gathered, self.gathered = self.gathered, []
        outcomes = book_all(gathered)
        assert outcomes == [self.naive.book(each) for each in gathered]
        self.seen.update(outcomes)

    @invariant()
    def totals_agree(self) -> None:
        if hasattr(self, "paths"):
            found = self.under_test.totals()
            assert [found[path] for path in self.paths] == [self.naive.totals(path) for path in self.paths]

    def teardown(self) -> None:
        if hasattr(self, "paths"):
            self.book_together()
            self.totals_agree()
            self.under_test.check()


def test_the_ledger_does_what_a_naive_one_does(ledger: LedgerUnderTest) -> None:
    seen: set[str] = set()
    machine = type("ComparisonOfThis", (Comparison,), {"under_test": ledger, "seen": seen})
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    assert EXPECTED - seen == set()
