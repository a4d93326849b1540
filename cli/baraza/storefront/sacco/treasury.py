"""Treasury: brings float where it is short, and opens the lanes that were paused for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from baraza.storefront.sacco.people import SHORT_CODE, People, follow
from baraza.system.client import Answer, objects
from baraza.terminal import Refusal

FLOAT_MINOR: Final = 20_000_000_00
"""What treasury brings to the utility account at a time."""
FLOAT_MIN_MINOR: Final = 100_000_00
"""With less than this treasury brings more."""
LOOK_S: Final = 2.0
"""Between two looks at the lanes."""


@dataclass(slots=True)
class Watched:
    """How often treasury found a lane paused."""

    paused: int = 0


@contextmanager
def treasury(people: People) -> Iterator[Watched]:
    """Look at float and lanes while the block runs, and once after it. What is away is looked at again."""
    is_over, found = threading.Event(), Watched()

    def look() -> None:
        with suppress(Refusal):
            found.paused += reopen(people)

    def watch() -> None:
        while not is_over.wait(LOOK_S):
            look()

    thread = threading.Thread(target=watch, name="treasury", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
    look()


def bring_float(people: People, amount_minor: int) -> None:
    """Bring float to the utility account, as a transfer at the provider; below zero it is taken away."""
    body = {"short_code": SHORT_CODE, "account": "utility", "amount_minor": amount_minor}
    people.provider.call("POST", "/float", body=body)


def await_float(people: People) -> None:
    """Wait until mobile-money knows of the float that was brought: it asks for its balance once a minute."""
    follow(
        lambda: [int(each["utility_minor"] or 0) for each in _floats(people)],
        lambda known: any(each >= FLOAT_MIN_MINOR for each in known),
        "the float",
    )


def reopen(people: People) -> bool:
    """Bring float where it is short, and open the lanes that were paused for it. Return whether it was short."""
    paused = [each for each in objects(people.money.get("/v1/lanes"), "rows") if _is_ours(each) and _is_paused(each)]
    is_short = bool(paused) or any(int(each["utility_minor"] or 0) < FLOAT_MIN_MINOR for each in _floats(people))
    if is_short and (paused or _has_little(people)):
        bring_float(people, FLOAT_MINOR)
    for lane in paused:
        body = {"state": "OPEN", "reason": "Float was brought."}
        people.money.call("POST", f"/v1/lanes/{SHORT_CODE}/{lane['name']}", body=body)
    return bool(paused)


def _floats(people: People) -> list[Answer]:
    """Return what mobile-money knows of our short code's float."""
    return [each for each in objects(people.money.get("/v1/floats"), "rows") if _is_ours(each)]


def _is_ours(row: Mapping[str, Any]) -> bool:
    return bool(row["short_code"] == SHORT_CODE)


def _is_paused(lane: Mapping[str, Any]) -> bool:
    return bool(lane["state"] == "PAUSED")


def _has_little(people: People) -> bool:
    """Return whether the utility account really has little: what we know of it may be a minute old."""
    return utility_minor(people) < FLOAT_MIN_MINOR


def utility_minor(people: People) -> int:
    """Return what the provider's own books have in the utility account."""
    return int(people.provider.get("/books", {"limit": 1})["balances"].get(f"{SHORT_CODE}:utility", 0))
