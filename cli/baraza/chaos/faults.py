"""Brings a fault about and undoes it, each kind in a function of its own, which says what it did."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping

from stack.services import PROXIED
from stack.toxiproxy import SIDES

from baraza.chaos import network, versions
from baraza.chaos.schedule import Fault, Kind
from baraza.chaos.target import ChaosTarget
from stack import kafka, postgres, redis, registry

Sleep = Callable[[float], None]
Inject = Callable[[ChaosTarget, Fault, random.Random, Sleep], str]

DURING_RECOVERY_S = (0.05, 0.8)
"""After PostgreSQL has begun to recover; it takes about a second here."""
DELAYS_MS = (20, 150)
SILENT_MS = 2_000
SHARE_BROKEN = 0.4


def inject(field: ChaosTarget, fault: Fault, sleep: Sleep) -> str:
    """Bring the fault about, let it last, undo it, and return what was done in a few words. Raises StackError, Refusal.

    It returns when what was hurt is there again, which is not to say that all of the work has gone on.
    """
    return KINDS[fault.kind](field, fault, random.Random(fault.draw), sleep)


def _kill(field: ChaosTarget, fault: Fault, _chance: random.Random, _sleep: Sleep) -> str:
    before = {victim: field.stack.pid(victim) for victim in fault.victims}
    for victim in fault.victims:
        field.send(victim, signal.SIGKILL)
    for victim, pid in before.items():
        field.await_other(victim, pid)
    return f"SIGKILL {', '.join(fault.victims)}"


def _pause(field: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    stopped = [victim for victim in fault.victims if field.send(victim, signal.SIGSTOP)]
    sleep(fault.lasts_s)
    for victim in stopped:
        field.send(victim, signal.SIGCONT)
    return f"SIGSTOP {', '.join(stopped)}, SIGCONT after {fault.lasts_s} s"


def _kafka(field: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    field.send(kafka.NAME, signal.SIGKILL)
    _away(field, kafka.NAME, fault.lasts_s, sleep)
    return f"Kafka killed, away for {fault.lasts_s} s"


def _postgres(field: ChaosTarget, _fault: Fault, _chance: random.Random, _sleep: Sleep) -> str:
    field.kill(postgres.NAME, signal.SIGQUIT)
    field.stack.start(postgres.NAME)
    return "PostgreSQL shut down at once"


def _postgres_twice(field: ChaosTarget, _fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    field.kill(postgres.NAME, signal.SIGQUIT)
    after_s = chance.uniform(*DURING_RECOVERY_S)
    sleep(after_s)
    field.kill(postgres.NAME, signal.SIGQUIT)
    field.stack.start(postgres.NAME)
    return f"PostgreSQL shut down at once, and again {after_s:.1f} s into its next start"


def _redis(field: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    field.send(redis.NAME, signal.SIGKILL)
    _away(field, redis.NAME, fault.lasts_s, sleep)
    return f"Redis away for {fault.lasts_s} s"


def _registry(field: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    victim = fault.victims[0]
    field.stack.stop(registry.NAME)
    field.send(victim, signal.SIGKILL)
    _away(field, registry.NAME, fault.lasts_s, sleep)
    return f"the registry away for {fault.lasts_s} s while {victim} starts"


def _away(field: ChaosTarget, part: str, lasts_s: float, sleep: Sleep) -> None:
    field.stack.stop(part)
    sleep(lasts_s)
    field.stack.start(part)


def _delay(field: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, delay_ms = _sides(chance), chance.randint(*DELAYS_MS)
    for proxy in field.proxies(sides):
        field.network.poison(proxy, network.latency(delay_ms, delay_ms // 2))
    sleep(fault.lasts_s)
    field.network.heal()
    return f"every answer to side {' and '.join(sides)} {delay_ms} ms late for {fault.lasts_s} s"


def _loss(field: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, targets = _sides(chance), _targets(chance)
    for proxy in field.proxies(sides, targets):
        field.network.poison(proxy, network.reset(chance.randint(0, SILENT_MS), SHARE_BROKEN))
        field.network.poison(proxy, network.silence(SHARE_BROKEN, closing_after_ms=chance.randint(1, SILENT_MS)))
    sleep(fault.lasts_s)
    field.network.heal()
    return f"connections of side {' and '.join(sides)} to {', '.join(targets)} break for {fault.lasts_s} s"


def _partition(field: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, targets, is_refused = _sides(chance), _targets(chance), chance.random() < 0.5
    for proxy in field.proxies(sides, targets):
        if is_refused:
            field.network.cut(proxy)
        else:
            field.network.poison(proxy, network.silence())
    sleep(fault.lasts_s)
    field.network.heal()
    how = "is refused by" if is_refused else "hears nothing from"
    return f"side {' and '.join(sides)} {how} {', '.join(targets)} for {fault.lasts_s} s"


def _outbox(field: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    field.send(kafka.NAME, signal.SIGSTOP)
    try:
        sleep(fault.lasts_s)
        rows = field.ask("SELECT count(*) FROM outbox", service="checkout")
    finally:
        field.send(kafka.NAME, signal.SIGCONT)
    count = rows[0][0] if rows else "unknown many"
    return f"nothing published for {fault.lasts_s} s, {count} messages in checkout's outbox at the end"


def _again(field: ChaosTarget, fault: Fault, chance: random.Random, _sleep: Sleep) -> str:
    return f"published again: {field.letters.again(chance, in_order=fault.kind is Kind.DUPLICATES)}"


def _rollback(field: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    service = chance.choice(sorted(versions.with_history()))
    version = versions.unpack(service, versions.with_history()[service], field.stack.home / "versions")
    version.register(field.stack.registry_writer())
    field.run_as(service, version)
    try:
        sleep(fault.lasts_s)
    finally:
        field.run_as(service, None)
    return f"{service} as it was at {version.commit[:12]} for {fault.lasts_s} s, and then as it is"


def _poison(field: ChaosTarget, _fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    while not (saga_ids := field.recent_sagas()):
        sleep(0.5)
    return f"poison on {field.letters.poison(chance, saga_ids)}"


def _sides(chance: random.Random) -> list[str]:
    """One half of the processes, or all of them."""
    return sorted(chance.sample(SIDES, chance.randint(1, len(SIDES))))


def _targets(chance: random.Random) -> list[str]:
    return sorted(chance.sample(PROXIED, chance.randint(1, 2)))


KINDS: Mapping[Kind, Inject] = {
    Kind.KILL: _kill,
    Kind.PAUSE: _pause,
    Kind.KAFKA: _kafka,
    Kind.POSTGRES: _postgres,
    Kind.POSTGRES_TWICE: _postgres_twice,
    Kind.REDIS: _redis,
    Kind.REGISTRY: _registry,
    Kind.DELAY: _delay,
    Kind.LOSS: _loss,
    Kind.PARTITION: _partition,
    Kind.OUTBOX: _outbox,
    Kind.DUPLICATES: _again,
    Kind.REORDERED: _again,
    Kind.ROLLBACK: _rollback,
    Kind.POISON: _poison,
}
