"""Whatever bytes come on whatever topic: no process falls, no neighbour is lost, and nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
from baraza.audit import report, scratch
from baraza.audit.invariants import INVARIANTS
from baraza.audit.sources import sources_of
from baraza.system.running import Running
from chassis.wire.codec import Codec
from chassis.wire.registry import RemoteRegistry
from saga_tracker.definitions import DEFINITIONS
from support.lag import behind
from support.poison import Poison, Poisoner
from support.shop import Placed, Shop
from support.topics import Stored, publish, stored
from support.waiting import until

from stack import contract

PARTITIONS = 3
NEIGHBOURS = 9
"""Orders placed before, between and after: three a partition, on the average."""
AT_ONCE = 40


def running(shop: Shop) -> dict[str, int]:
    """Return every process of the stack with its id, which changes where one was started again."""
    return {each.name: each.pid for each in shop.stack.status()}


def letters(shop: Shop) -> list[Stored]:
    """Return every dead letter."""
    topics = [topic for topic in contract.topics() if topic.endswith(".dlq")]
    return [each for each in stored(shop.stack.kafka(), *topics) if "baraza_service" in each.headers]


def is_letter_of(poison: Poison, letter: Stored) -> bool:
    """Say whether a dead letter holds the original: its bytes, its key and its headers in their order."""
    parcel, told = poison.parcel, letter.headers
    return (
        letter.value == (parcel.value or b"")
        and letter.partition == parcel.partition
        and told["baraza_topic"] == parcel.topic.encode()
        and told["baraza_key"] == (parcel.key or b"").hex().encode()
        and letter.pairs[: len(parcel.headers)] == parcel.headers
    )


def chunks(poisons: Sequence[Poison]) -> Iterator[list[Poison]]:
    rest = iter(poisons)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def plant(shop: Shop, poisons: Sequence[Poison]) -> list[Placed]:
    """Publish the poison with good orders in between."""
    placed: list[Placed] = []
    for some in chunks(poisons):
        publish(shop.stack.kafka(), [poison.parcel for poison in some], compression="gzip")
        placed.append(shop.place())
    return placed


def offenders(shop: Shop) -> Iterator[tuple[str, str]]:
    """Yield everything that the audit finds fault with: the id, and what is wrong."""
    origin = sources_of(Running(stack=shop.stack))
    report.wait_until_quiet(origin, report.QUIET_WAIT_S, lambda _moving: None)
    with scratch.filled(origin, DEFINITIONS, lambda _rows: None) as read:
        for invariant in INVARIANTS:
            for offender, problem in read.execute(invariant.offenders).fetchall():
                yield str(offender), f"{invariant.name}: {problem}"


def names_of(poisons: Sequence[Poison]) -> set[str]:
    """Return every id under which the audit may speak of what was planted: a saga's, or the key of a dead letter."""
    keys = [poison.parcel.key or b"" for poison in poisons]
    planted = {key.decode(errors="replace") for key in keys}
    given_up = {key.decode(errors="backslashreplace").replace("\x00", "\\x00") for key in keys}
    return planted | given_up | {poison.saga_id for poison in poisons}


def test_poison_on_every_topic_harms_nobody_and_every_piece_has_its_dead_letter(
    besieged: Shop, pytestconfig: pytest.Config
) -> None:
    seed = int(pytestconfig.getoption("hypothesis_seed"))
    registry = RemoteRegistry(besieged.stack.endpoints.registry_url)
    before = besieged.place_many(NEIGHBOURS)
    processes = running(besieged)
    neighbours = tuple(order.order_id for order in before)
    for order_id in neighbours:
        assert besieged.outcome(order_id)["saga"]["state"] == "CONFIRMED"
    poisons = Poisoner(codec=Codec(registry), partitions=PARTITIONS, seed=seed, neighbours=neighbours).everything()
    registry.close()

    between = plant(besieged, poisons)
    after = besieged.place_many(NEIGHBOURS)

    for order in (*between, *after):
        assert besieged.outcome(order.order_id)["saga"]["state"] == "CONFIRMED", f"seed {seed}"
    until(lambda: behind(besieged), "everything is read", holds=lambda lag: not any(lag.values()))
    assert running(besieged) == processes, f"a process was started again, with seed {seed}"
    red = [(offender, problem) for offender, problem in offenders(besieged) if offender not in names_of(poisons)]
    assert not red, f"the audit finds fault with what nobody planted, with seed {seed}: {red}"
    found = letters(besieged)
    lost = [each.kind for each in poisons if each.is_dead and not any(is_letter_of(each, letter) for letter in found)]
    assert not lost, f"no dead letter, with seed {seed}: {lost}"
    assert all(letter.headers["baraza_reason"] for letter in found)
