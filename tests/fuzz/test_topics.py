"""With any bytes on any topic, no process ends, no other order is lost, and nothing is dropped silently."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from baraza.audit import report, scratch
from baraza.audit.invariants import INVARIANTS
from baraza.audit.sources import sources_of
from baraza.chaos.messages import MessageFaults
from baraza.system.running import Running
from saga_tracker.definitions import DEFINITIONS
from stack import contract
from support.command_line import Case, serving
from support.lag import unhandled_counts
from support.poison import Origin, Poison, Poisoner
from support.registries import codec_of
from support.shop import PlacedOrder, Shop
from support.topics import Stored, ends, publish, stored
from support.waiting import until

PARTITIONS = 3
NEIGHBOURS = 9
"""Orders placed before, between and after: on average three for each partition."""
AT_ONCE = 40
SHARE = float(os.environ.get("BARAZA_POISON_SHARE", "0.1"))
"""How much of all poison a run plants; another seed plants another share, and 1 plants it all in half an hour."""
LASTS_MAX_S = 1_200
READERS = (
    ("letters", "list"),
    ("letters", "list", "--json"),
    ("sagas", "list", "--json"),
    ("sagas", "review"),
    ("topics",),
    ("redrive", "--plan", "all"),
)
"""Commands that show what operators see of the poison."""


def running(shop: Shop) -> dict[str, int]:
    """Return the id of every process of the stack, which changes with a restart."""
    return {each.name: each.pid for each in shop.stack.status()}


def letters(shop: Shop) -> list[Stored]:
    """Return every dead letter."""
    topics = [topic for topic in contract.topics() if topic.endswith(".dlq")]
    return [each for each in stored(shop.stack.kafka(), *topics) if "baraza_service" in each.headers]


def is_letter_of(poison: Poison, letter: Stored) -> bool:
    """Return whether a dead letter of the same origin holds the original: its bytes and its headers in order.

    Where it cannot hold the headers, it states that.
    """
    if letter.value != (poison.message.value or b""):
        return False
    if poison.is_cut and letter.headers.get("baraza_cut", b"").startswith(b"headers: none"):
        return True
    pairs = poison.message.pairs
    return letter.pairs[: len(pairs)] == pairs


def origin_of(letter: Stored) -> Origin:
    """Return the topic, the partition and the key (in hexadecimal digits) of a dead letter's original."""
    headers = letter.headers
    return headers["baraza_topic"].decode(), letter.partition, headers["baraza_key"].decode()


def chunks(poisons: Sequence[Poison]) -> Iterator[list[Poison]]:
    rest = iter(poisons)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def plant(shop: Shop, poisons: Sequence[Poison]) -> list[PlacedOrder]:
    """Publish the poison with good orders in between."""
    placed: list[PlacedOrder] = []
    for some in chunks(poisons):
        publish(shop.stack.kafka(), [poison.message for poison in some], compression="gzip")
        placed.append(shop.place())
    return placed


def offenders(shop: Shop) -> Iterator[tuple[str, str]]:
    """Yield every finding of the audit: the id, and the problem."""
    origin = sources_of(Running(stack=shop.stack))
    report.wait_until_quiet(origin, report.QUIET_WAIT_S, lambda _moving: None)
    with scratch.filled(origin, DEFINITIONS, lambda _rows: None) as read:
        for invariant in INVARIANTS:
            for offender, problem in read.execute(invariant.offenders).fetchall():
                yield str(offender), f"{invariant.name}: {problem}"


def names_of(poisons: Sequence[Poison]) -> set[str]:
    """Return every id that the audit may report for the poison: a saga's, or the key of a dead letter."""
    keys = [poison.message.key or b"" for poison in poisons]
    planted = {key.decode(errors="replace") for key in keys}
    dead = {key.decode(errors="backslashreplace").replace("\x00", "\\x00") for key in keys}
    return planted | dead | {poison.saga_id for poison in poisons}


@pytest.mark.timeout(LASTS_MAX_S)
def test_poison_on_every_topic_harms_no_order_and_every_piece_has_its_dead_letter(
    besieged: Shop, pytestconfig: pytest.Config
) -> None:
    seed = int(pytestconfig.getoption("hypothesis_seed"))
    before = besieged.place_many(NEIGHBOURS)
    processes = running(besieged)
    neighbours = tuple(order.order_id for order in before)
    for order_id in neighbours:
        assert besieged.outcome(order_id)["saga"]["state"] == "CONFIRMED"
    with codec_of(besieged.stack) as codec:
        poisons = Poisoner(codec=codec, partitions=PARTITIONS, seed=seed, neighbours=neighbours).some(SHARE)

    between = plant(besieged, poisons)
    after = besieged.place_many(NEIGHBOURS)

    for order in (*between, *after):
        assert besieged.outcome(order.order_id)["saga"]["state"] == "CONFIRMED", f"seed {seed}"
    until(lambda: unhandled_counts(besieged), "everything is read", holds=lambda lag: not any(lag.values()))
    assert running(besieged) == processes, f"A process was restarted, with seed {seed}."
    planted = names_of(poisons)
    red = [(offender, problem) for offender, problem in offenders(besieged) if offender not in planted]
    assert not red, f"The audit has findings besides the poison, with seed {seed}: {red}"
    found = letters(besieged)
    by_origin = defaultdict(list)
    for letter in found:
        by_origin[origin_of(letter)].append(letter)
    lost = [
        f"{each.kind}: {each.origin}, {[letter.headers.get('baraza_cut') for letter in by_origin[each.origin]]}"
        for each in poisons
        if each.is_dead and not any(is_letter_of(each, letter) for letter in by_origin[each.origin])
    ]
    assert not lost, f"No dead letter, with seed {seed}: {lost}"
    assert all(letter.headers["baraza_reason"] for letter in found)
    check_readers(besieged, between[-1])


def check_readers(shop: Shop, order: PlacedOrder) -> None:
    """Check that every command that reads what is on Kafka, or came from there, shows it."""
    counts: Counter[str] = Counter()
    for (topic, _), end in ends(shop.stack.kafka(), *contract.topics()).items():
        counts[topic] += end
    tails = [
        ("events", "tail", topic, "--from-beginning", "--limit", str(count), *form)
        for topic, count in counts.items()
        if count
        for form in (((),) if topic.endswith(".dlq") else ((), ("--json",)))
    ]
    home = ("--home", str(shop.stack.home))
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    with serving() as command_line:
        for arguments in (*READERS, ("timeline", order.order_id), *tails):
            ended = command_line.run(Case(arguments=[*arguments, *home], environment=environment))
            assert ended.status == 0, (arguments, ended.stdout[-500:], ended.stderr[-2_000:])
            assert "Traceback" not in ended.stderr, arguments
            if arguments[:2] == ("events", "tail"):
                assert ended.stdout.count("\n") == counts[arguments[2]]
                assert "\x1b" not in ended.stdout
    assert not MessageFaults(shop.stack.kafka()).unreported()
