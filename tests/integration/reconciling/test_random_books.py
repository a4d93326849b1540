"""Any books against any feed: what differs is found, whatever comes in which order and file, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from support.reconciling import CAPTURED, LATER, REFUNDED, Feed, Reconciled, both, capture, refund

Faults = dict[tuple[int | None, str], str]


def generated(books: Reconciled, gateway: str, chance: random.Random) -> tuple[Feed, Faults]:
    """Book payments and refunds, write the gateway's lines of them, and return which of them were made to differ."""
    account, feed = books.account(gateway), Feed(gateway)
    faults: Faults = {}
    for payment_id in chance.sample(range(1, 2**62), 60):
        currency = chance.choice(["USD", "EUR", "JPY", "BHD"])
        amount_minor = chance.choice([1, 500, 500, 123_456, 2**33])
        known = {"payment_id": payment_id, "pspid": f"pay_{payment_id}", "currency": currency}
        fault = chance.choice(["none"] * 6 + ["lost", "unknown", "short", "twice"])
        if fault != "unknown":
            books.record(*both(capture(account, payment_id, amount_minor, currency=currency)))
        if fault != "lost":
            shown = amount_minor + (1 if fault == "short" else 0)
            for number in range(2 if fault == "twice" else 1):
                feed.add(CAPTURED[gateway], shown, reference=f"c{number}_{payment_id}", **known)  # type: ignore[arg-type]
        kind = {"lost": "MISSING_AT_GATEWAY", "unknown": "MISSING_IN_LEDGER", "short": "AMOUNT_MISMATCH",
                "twice": "DUPLICATE"}.get(fault)  # fmt: skip
        if kind is not None:
            faults[payment_id, "CAPTURE"] = kind
        elif amount_minor > 1 and chance.random() < 0.5:
            refund_id, part = chance.randrange(1, 2**62), chance.randrange(1, amount_minor)
            books.record(*both(refund(account, payment_id, refund_id, part, currency=currency)))
            if chance.random() < 0.2:
                faults[payment_id, "REFUND"] = "MISSING_AT_GATEWAY"
            else:
                feed.add(REFUNDED[gateway], -part, reference=f"ref_{refund_id}", **known)  # type: ignore[arg-type]
    return feed, faults


@pytest.mark.parametrize("gateway", ["stripe", "adyen"])
def test_what_differs_is_found_and_nothing_else(
    books: Reconciled, gateway: str, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    record_property("seed", seed)
    chance = random.Random(seed)
    feed, faults = generated(books, gateway, chance)
    rows = list(feed.rows)
    chance.shuffle(rows)
    cut = chance.randrange(len(rows))
    (account,) = books.accounts
    for name, part in (("b.csv", rows[:cut]), ("a.csv", rows[cut:]), ("c.csv", rows[: cut // 2])):
        books.deliver(account, name, Feed(gateway, part).to_csv())
    books.run(account)
    books.now = LATER
    run = books.run(account)
    assert books.open() == faults, f"seed {seed}"
    assert run.opened == len(faults)
    books.due()
    assert books.open() == faults, f"seed {seed}: the hourly run found something else"
    for shift in (0,):
        day = run.as_of.date() if shift else books.rows("SELECT min(occurred_at) AS at FROM records")[0].at.date()
        books.run(account, day=day)
    assert books.open() == faults, f"seed {seed}: the run of the day found something else"
