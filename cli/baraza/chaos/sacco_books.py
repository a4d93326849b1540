"""The provider's own books beside ours, after a run: what was paid in is recorded once, nothing is paid out twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import tenacity

from baraza.audit import console
from baraza.audit.sources import Row
from baraza.chaos.target import ChaosTarget
from baraza.storefront.sacco.people import SHORT_CODE, People, people
from baraza.storefront.sacco.statements import days_since, import_statements
from baraza.system.client import Unreachable, objects

MONEY, LEDGER = "mobile-money", "ledger"
UTILITY: Final = f"{SHORT_CODE}:utility"
PAGE: Final = 5_000
IMPORTED_WITHIN_S: Final = 180.0
"""A statement of a whole run takes longer than a call may, where the machine is busy."""
RECORDED = "SELECT receipt, amount_minor FROM receipt_books WHERE short_code = %s"
TAKEN = "SELECT receipt, saga_id FROM receipts WHERE short_code = %s"
OWN_IDS = "SELECT own_id, saga_id FROM own_ids WHERE step = 'send_payout' AND short_code = %s"
PAYOUTS = "SELECT saga_id, state, amount_minor FROM payout_books WHERE short_code = %s"
OPEN_SAGAS = """
    SELECT saga_id FROM sagas WHERE state IN ('PENDING', 'NEEDS_REVIEW', 'IN_DOUBT', 'INCIDENT')
"""
ASKS_NO_MORE: Final = frozenset({"SENT", "UNSURE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What both sides have. ``entries`` are the provider's; ``open_sagas`` wait, or are parked with a reason."""

    entries: Sequence[Mapping[str, Any]]
    recorded: Sequence[Row]
    taken: Mapping[str, str]
    own_ids: Mapping[str, str]
    payouts: Sequence[Row]
    open_sagas: Set[str]

    def differences(self) -> Iterator[str]:
        """Yield a sentence for everything in which the two differ."""
        moved = [each for each in self.entries if each["account"] == UTILITY]
        yield from self._of_receipts([each for each in moved if each["kind"] == "pay_in"])
        yield from self._of_payouts([each for each in moved if each["kind"] == "pay_out"])

    def _of_receipts(self, paid_in: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        theirs = {str(each["receipt"]): int(each["amount_minor"]) for each in paid_in}
        ours: dict[str, int] = dict(self.recorded)
        for receipt, times in Counter(receipt for receipt, _ in self.recorded).items():
            if times > 1:
                yield f"the receipt {receipt} is recorded {times} times"
        for receipt, amount_minor in theirs.items():
            if receipt not in ours:
                if self.taken.get(receipt) not in self.open_sagas:
                    yield f"the receipt {receipt} of {amount_minor} is in the provider's books and is not recorded"
            elif ours[receipt] != amount_minor:
                yield f"the receipt {receipt} of {amount_minor} is recorded as {ours[receipt]}"
        for receipt in ours.keys() - theirs.keys():
            yield f"the receipt {receipt} is recorded, and the provider has no such payment"

    def _of_payouts(self, paid_out: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        theirs: defaultdict[str, list[int]] = defaultdict(list)
        for each in paid_out:
            own_id = str(each["details"].get("originator"))
            if own_id in self.own_ids:
                theirs[self.own_ids[own_id]].append(-int(each["amount_minor"]))
            else:
                yield f"the payout {each['receipt']} has the id {own_id}, which is none of ours"
        states = {saga_id: (state, amount_minor) for saga_id, state, amount_minor in self.payouts}
        for saga_id, amounts in theirs.items():
            if len(amounts) > 1:
                yield f"the payout {saga_id} was paid {len(amounts)} times"
            state, amount_minor = states.get(saga_id, ("nothing", 0))
            if state != "PAID" and (state != "HELD" or saga_id not in self.open_sagas):
                yield f"the payout {saga_id} of {amounts[0]} was paid, and the ledger has it as {state}"
            elif amounts[0] != amount_minor:
                yield f"the payout {saga_id} of {amounts[0]} was paid, and the ledger has {amount_minor}"
        for saga_id, (state, amount_minor) in states.items():
            if state == "PAID" and saga_id not in theirs:
                yield f"the ledger has the payout {saga_id} of {amount_minor} as PAID, and the provider never paid it"
            if state == "HELD" and saga_id not in self.open_sagas:
                yield f"the payout {saga_id} of {amount_minor} is held, and its saga has ended"


def compared(target: ChaosTarget, began_at: datetime, quiet_within_s: float) -> list[str]:
    """Import the provider's statements, and return a sentence for everything in which our books differ from its own.

    What a statement brings is booked, so it settles things as well. Raises Refusal, Unreadable.
    """
    with people(target.running) as staff:
        for day in days_since(began_at, datetime.now(UTC)):
            _imported(staff, day)
        console.wait_until_quiet(target.running, quiet_within_s)
        found = list(_read(target, staff).differences())
        unwatched = objects(staff.money.get("/v1/money/in-doubt", {"limit": 1_000}), "in_doubt")
    return found + [
        f"the outcome of {each['step']} of {each['saga_id']} is in doubt, and nothing looks for it"
        for each in unwatched
        if each["state"] in ASKS_NO_MORE and each["next_look_at"] is None
    ]


@tenacity.retry(
    stop=tenacity.stop_after_delay(IMPORTED_WITHIN_S),
    wait=tenacity.wait_fixed(1),
    retry=tenacity.retry_if_exception_type(Unreachable),
    reraise=True,
)
def _imported(staff: People, day: date) -> None:
    """Import the statements of a day, again where a busy service gave no answer: a row that is known adds nothing."""
    import_statements(staff, day)


def _read(target: ChaosTarget, staff: People) -> Books:
    # The provider first: what it has by then is recorded by now.
    entries = list(_entries(staff))
    return Books(
        entries=entries,
        recorded=target.query(RECORDED, SHORT_CODE, service=LEDGER),
        taken=dict(target.query(TAKEN, SHORT_CODE, service=MONEY)),
        own_ids=dict(target.query(OWN_IDS, SHORT_CODE, service=MONEY)),
        payouts=target.query(PAYOUTS, SHORT_CODE, service=LEDGER),
        open_sagas={saga_id for (saga_id,) in target.query(OPEN_SAGAS)},
    )


def _entries(staff: People) -> Iterator[Mapping[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = staff.provider.get("/books", {"after": after, "limit": PAGE})
        yield from objects(page, "entries")
        after = page["next"]
