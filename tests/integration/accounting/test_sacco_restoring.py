"""A SACCO's ledger after a kill, and after its database was restored: each booking stands once, as it was published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from chassis.process.published import published_of
from chassis.process.reconcile import Replay
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from messages.contract import Message
from proof.schemas import LocalRegistry
from stack import Stack
from support.ledger_steps import HANDLERS, handle
from support.ledger_writers import kill
from support.ledgers import LedgerUnderTest, scratch_ledger
from support.sacco_bookings import SaccoUnderTest, nairobi
from support.sacco_writers import started
from support.waiting import until

CODEC = Codec(LocalRegistry())
RECEIPTS = 40
LOAN = (
    "SELECT number, value_at, interest_minor, principal_minor FROM loan_payments WHERE loan_id = :it ORDER BY value_at"
)


@pytest.fixture
def restored(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """The ledger on an empty database, as a backup from before everything has it."""
    with scratch_ledger(infrastructure) as ledger:
        yield ledger
        ledger.check()


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_leaves_whole_bookings_and_another_one_makes_the_rest(ledger: LedgerUnderTest) -> None:
    sacco = SaccoUnderTest(ledger=ledger).register()
    loan = sacco.loan(1_000_000).disburse(nairobi(1))
    receipts = [sacco.receipt(1_000 + number, completed_at=nairobi(11)) for number in range(RECEIPTS)]
    messages: list[Message] = []
    for each in receipts:
        messages += [each.received(), each.attributed([loan.target(), each.to_savings()])]
    process = started(ledger, messages)
    until(lambda: receipts[3].state(), "some receipts are recorded", holds=lambda state: state is not None)
    kill(process, ledger)
    states = [each.state() for each in receipts]
    assert states.count(None) > 0, "it was killed in between"
    ledger.check()
    for message in messages:
        handle(ledger, message)
    assert {each.state() for each in receipts} == {"ALLOCATED"}
    total = sum(1_000 + number for number in range(RECEIPTS))
    assert (sacco.posted("utility"), loan.booked()) == (total - 1_000_000, 1_000_000 - (total - 10_000))


class Replayed:
    """What a ledger has read and published, so that another one can take it over."""

    def __init__(self, ledger: LedgerUnderTest) -> None:
        self._ledger = ledger
        self.own: list[tuple[int, Message]] = []
        self.read: list[Any] = []

    def deliver(self, message: Message) -> Message:
        service = ServiceUnderTest(
            name="ledger", engine=self._ledger.engine, handlers=HANDLERS, codec=CODEC, saga_id=message.saga_id,
        )  # fmt: skip
        (answer,) = service.deliver(message)
        self.own.append((len(self.own), answer))
        self.read += service.read
        return answer

    def take_over(self, ledger: LedgerUnderTest, order: Sequence[int]) -> Any:
        """Replay it into another database, in an order of publishing."""
        own = [(at, self.own[index][1]) for at, index in enumerate(order)]
        return Replay("ledger", HANDLERS, ledger.engine, CODEC, published_of(HANDLERS, own, self.read)).run()


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 5, 6, 3, 4)], ids=["as it was", "another"])
def test_a_restored_ledger_has_the_published_allocations_and_the_same_balances(
    ledger: LedgerUnderTest, restored: LedgerUnderTest, order: Sequence[int]
) -> None:
    sacco = SaccoUnderTest(ledger=ledger)
    loan, replayed = sacco.loan(1_000_000), Replayed(ledger)
    part = loan.part()
    receipts = [sacco.receipt(amount, completed_at=nairobi(day)) for day, amount in ((21, 50_000), (11, 110_000))]
    replayed.deliver(sacco.registered())
    replayed.deliver(part.requested())
    replayed.deliver(part.paid(completed_at=nairobi(1)))
    for each in receipts:
        replayed.deliver(each.received())
        replayed.deliver(each.attributed([loan.target(), each.to_savings()]))
    done = replayed.take_over(restored, order)
    assert (done.repeated, list(done.open)) == (len(replayed.own), [])
    after = SaccoUnderTest(ledger=restored, member_id=sacco.member_id, short_code=sacco.short_code)
    for code in ("utility", "fosa"):
        assert after.posted(code) == sacco.posted(code)
    assert after.posted("loan", loan.loan_id) == loan.booked() == 859_000
    booked = [tuple(row)[1:] for row in ledger.rows(LOAN, it=loan.loan_id)]
    assert [tuple(row)[1:] for row in restored.rows(LOAN, it=loan.loan_id)] == booked
    assert [row.interest_minor for row in restored.rows(LOAN, it=loan.loan_id)] == [10_000, 9_000]
