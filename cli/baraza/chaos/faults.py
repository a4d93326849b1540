"""Injects a fault and undoes it. Each kind has a function of its own, which returns a description."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping

from baraza.chaos import callbacks, mobile_money, network, standstill, versions
from baraza.chaos.schedule import Fault, Kind
from baraza.chaos.target import REPLICAS, ChaosTarget
from stack import kafka, postgres, redis, registry
from stack.services import PROXIED, replica_names
from stack.toxiproxy import SIDES

Sleep = Callable[[float], None]
Inject = Callable[[ChaosTarget, Fault, random.Random, Sleep], str]

DURING_RECOVERY_S = (0.05, 0.8)
"""After PostgreSQL has begun to recover; it takes about a second here."""
DELAYS_MS = (20, 150)
SILENT_MS = 2_000
BROKEN_SHARE = 0.4


def inject(target: ChaosTarget, fault: Fault, sleep: Sleep) -> str:
    """Inject the fault, let it last, undo it, and return a short description. Raises StackError, Refusal.

    It returns when the victims run again; the orders may not have recovered by then.
    """
    return KINDS[fault.kind](target, fault, random.Random(fault.draw), sleep)


def _kill(target: ChaosTarget, fault: Fault, _chance: random.Random, _sleep: Sleep) -> str:
    before = {victim: target.stack.pid(victim) for victim in fault.victims}
    for victim in fault.victims:
        target.send(victim, signal.SIGKILL)
    for victim, pid in before.items():
        target.await_other(victim, pid)
    return f"SIGKILL {', '.join(fault.victims)}"


def _pause(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    stopped = [victim for victim in fault.victims if target.send(victim, signal.SIGSTOP)]
    sleep(fault.lasts_s)
    for victim in stopped:
        target.send(victim, signal.SIGCONT)
    return f"SIGSTOP {', '.join(stopped)}, SIGCONT after {fault.lasts_s} s"


def _kafka(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    target.send(kafka.NAME, signal.SIGKILL)
    _stop_for(target, kafka.NAME, fault.lasts_s, sleep)
    return f"Kafka killed, down for {fault.lasts_s} s"


def _postgres(target: ChaosTarget, _fault: Fault, _chance: random.Random, _sleep: Sleep) -> str:
    target.kill(postgres.NAME, signal.SIGQUIT)
    target.stack.start(postgres.NAME)
    return "PostgreSQL shut down immediately"


def _postgres_twice(target: ChaosTarget, _fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    target.kill(postgres.NAME, signal.SIGQUIT)
    after_s = chance.uniform(*DURING_RECOVERY_S)
    sleep(after_s)
    target.kill(postgres.NAME, signal.SIGQUIT)
    target.stack.start(postgres.NAME)
    return f"PostgreSQL shut down immediately, and again {after_s:.1f} s into its next start"


def _redis(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    target.send(redis.NAME, signal.SIGKILL)
    _stop_for(target, redis.NAME, fault.lasts_s, sleep)
    return f"Redis down for {fault.lasts_s} s"


def _registry(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    victim = fault.victims[0]
    target.stack.stop(registry.NAME)
    target.send(victim, signal.SIGKILL)
    _stop_for(target, registry.NAME, fault.lasts_s, sleep)
    return f"the registry down for {fault.lasts_s} s while {victim} starts"


def _stop_for(target: ChaosTarget, part: str, lasts_s: float, sleep: Sleep) -> None:
    target.stack.stop(part)
    sleep(lasts_s)
    target.stack.start(part)


def _kafka_outage(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    target.send(kafka.NAME, signal.SIGKILL)
    _stop_for(target, kafka.NAME, fault.lasts_s, sleep)
    return f"Kafka away for {fault.lasts_s} s"


def _postgres_outage(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    target.send(postgres.NAME, signal.SIGQUIT)
    _stop_for(target, postgres.NAME, fault.lasts_s, sleep)
    return f"PostgreSQL away for {fault.lasts_s} s"


def _service_outage(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    service = chance.choice(target.participants)
    names = replica_names(service, REPLICAS)
    for name in names:
        target.send(name, signal.SIGKILL)
        target.stack.stop(name)
    try:
        sleep(fault.lasts_s)
    finally:
        for name in names:
            target.stack.start(name)
    return f"{service} away for {fault.lasts_s} s"


def _delay(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, delay_ms = _sides(chance), chance.randint(*DELAYS_MS)
    for proxy in target.proxies(sides):
        target.network.add(proxy, network.latency(delay_ms, delay_ms // 2))
    sleep(fault.lasts_s)
    target.network.heal()
    return f"every response to side {' and '.join(sides)} delayed by {delay_ms} ms for {fault.lasts_s} s"


def _loss(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, targets = _sides(chance), _targets(chance)
    for proxy in target.proxies(sides, targets):
        target.network.add(proxy, network.reset(chance.randint(0, SILENT_MS), BROKEN_SHARE))
        target.network.add(proxy, network.silence(BROKEN_SHARE, closing_after_ms=chance.randint(1, SILENT_MS)))
    sleep(fault.lasts_s)
    target.network.heal()
    return f"connections of side {' and '.join(sides)} to {', '.join(targets)} fail for {fault.lasts_s} s"


def _partition(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    sides, targets, is_refused = _sides(chance), _targets(chance), chance.random() < 0.5
    for proxy in target.proxies(sides, targets):
        if is_refused:
            target.network.cut(proxy)
        else:
            target.network.add(proxy, network.silence())
    sleep(fault.lasts_s)
    target.network.heal()
    how = "is refused by" if is_refused else "gets no response from"
    return f"side {' and '.join(sides)} {how} {', '.join(targets)} for {fault.lasts_s} s"


def _outbox(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    target.send(kafka.NAME, signal.SIGSTOP)
    try:
        sleep(fault.lasts_s)
        rows = target.query("SELECT count(*) FROM outbox", service="checkout")
    finally:
        target.send(kafka.NAME, signal.SIGCONT)
    count = rows[0][0] if rows else "an unknown number of"
    return f"nothing published for {fault.lasts_s} s, {count} messages in checkout's outbox at the end"


def _publish_again(target: ChaosTarget, fault: Fault, chance: random.Random, _sleep: Sleep) -> str:
    return f"published again: {target.messages.repeat(chance, in_order=fault.kind is Kind.DUPLICATES)}"


def _rollback(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    commits = {service: each for service, each in versions.with_history().items() if target.running.is_started(service)}
    service = chance.choice(sorted(commits))
    version = versions.unpack(service, commits[service], target.stack.home / "versions")
    version.register(target.stack.registry_writer())
    target.run_as(service, version)
    try:
        sleep(fault.lasts_s)
    finally:
        target.run_as(service, None)
    return f"{service} at {version.commit[:12]} for {fault.lasts_s} s, then at its present version"


def _poison(target: ChaosTarget, _fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    while not (saga_ids := target.recent_sagas()):
        sleep(0.5)
    return f"poison on {target.messages.poison(chance, saga_ids)}"


def _sides(chance: random.Random) -> list[str]:
    """Return one side of the network, or both: half of the processes, or all."""
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
    Kind.VANISHED: standstill.vanish,
    Kind.SLOW_COMMIT: standstill.commit_slowly,
    Kind.SLOW_LOOKUP: standstill.look_up_slowly,
    Kind.OUTBOX: _outbox,
    Kind.DUPLICATES: _publish_again,
    Kind.REORDERED: _publish_again,
    Kind.ROLLBACK: _rollback,
    Kind.POISON: _poison,
    Kind.KAFKA_OUTAGE: _kafka_outage,
    Kind.POSTGRES_OUTAGE: _postgres_outage,
    Kind.SERVICE_OUTAGE: _service_outage,
    Kind.LOST_CALLBACKS: callbacks.lose,
    Kind.LOST_WEBHOOKS: callbacks.lose_webhooks,
    Kind.LATE_GATEWAY: callbacks.answer_late,
    Kind.LOST_RESULTS: mobile_money.lose_results,
    Kind.PROVIDER_AWAY: mobile_money.provider_away,
    Kind.LISTENER_AWAY: mobile_money.listener_away,
    Kind.KILL_IN_CALLS: mobile_money.kill_in_calls,
}
