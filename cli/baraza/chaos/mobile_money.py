"""The faults of mobile money: results that never come, a provider or our listener away, kills in the middle of calls.

Money moves at the provider all the same. We learn it by queries, by the pull of payments, or by the statement.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Final

from baraza.chaos.callbacks import Rule, injected, keep
from baraza.chaos.schedule import Fault
from baraza.chaos.target import REPLICAS, ChaosTarget
from baraza.system.client import Api
from stack.providers import DARAJA
from stack.services import replica_names

Sleep = Callable[[float], None]

SERVICE: Final = "mobile-money"
CALLED_BACK: Final = ("b2c", "stk_push", "c2b", "status", "balance")
"""The operations whose callbacks are lost."""
MIXED_SHARE: Final = 0.5
"""In this share of the faults some callbacks come late or several times, instead of never."""
LOST_RATE, LATE_RATE, COPIES_RATE = 0.5, 0.3, 0.3
DELAY_S: Final = (1.0, 30.0)
SLOW_S: Final = 2.5
"""Almost as long as a call may take."""
UNDER_WAY_WITHIN_S: Final = 30.0
POLL_S: Final = 0.1
UNDER_WAY = """
    SELECT count(*) FROM effects WHERE step IN ('send_payout', 'send_prompt') AND state = 'STARTED'
"""
"""Calls that are announced and have no answer yet."""
NO_PULL: Rule = {"operation": "pull", "kind": "error"}


def results_lost_of(chance: random.Random) -> list[Rule]:
    """Return the faults at the provider's simulator: all callbacks are lost, or some, and some are late or doubled."""
    if chance.random() >= MIXED_SHARE:
        return [{"operation": each, "kind": "lost"} for each in CALLED_BACK]
    delay_s = round(chance.uniform(*DELAY_S), 1)
    return [
        rule
        for each in CALLED_BACK
        for rule in (
            {"operation": each, "kind": "lost", "rate": LOST_RATE},
            {"operation": each, "kind": "late", "rate": LATE_RATE, "delay_s": delay_s},
            {"operation": each, "kind": "copies", "rate": COPIES_RATE, "count": 3},
        )
    ]


def lose_results(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Let the provider act and send no callback, or some of them late or several times."""
    rules = results_lost_of(chance)
    with Api(DARAJA, target.running.url(DARAJA), None) as provider, injected(provider, rules):
        sleep(fault.lasts_s)
    others = ", some late, some three times" if len(rules) > len(CALLED_BACK) else ""
    return f"the callbacks of mobile money lost for {fault.lasts_s} s{others}"


def provider_away(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    """Stop the provider: whether it took what was sent last is not known."""
    target.send(DARAJA, signal.SIGKILL)
    target.stack.stop(DARAJA)
    try:
        sleep(fault.lasts_s)
    finally:
        target.stack.start(DARAJA)
    return f"the provider of mobile money away for {fault.lasts_s} s"


def listener_away(target: ChaosTarget, fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    """Stop our listener while members pay in, as for longer than the pull goes back: only the statement has those."""
    with Api(DARAJA, target.running.url(DARAJA), None) as provider:
        keep(provider, NO_PULL)
    names = replica_names(SERVICE, REPLICAS)
    for name in names:
        target.send(name, signal.SIGKILL)
        target.stack.stop(name)
    try:
        sleep(fault.lasts_s)
    finally:
        for name in names:
            target.stack.start(name)
    return f"our listener away for {fault.lasts_s} s, and no pull brings what it missed"


def kill_in_calls(target: ChaosTarget, _fault: Fault, _chance: random.Random, sleep: Sleep) -> str:
    """Kill every process of the service while calls have left it and have no answer."""
    rules: list[Rule] = [{"operation": each, "kind": "slow", "delay_s": SLOW_S} for each in ("b2c", "stk_push")]
    names = replica_names(SERVICE, REPLICAS)
    with Api(DARAJA, target.running.url(DARAJA), None) as provider, injected(provider, rules):
        count, before = _under_way(target, sleep), {name: target.stack.pid(name) for name in names}
        for name in names:
            target.send(name, signal.SIGKILL)
        for name, pid in before.items():
            target.await_other(name, pid)
    return f"SIGKILL {', '.join(names)} with {count} calls under way"


def _under_way(target: ChaosTarget, sleep: Sleep) -> int:
    """Wait until calls are under way, UNDER_WAY_WITHIN_S at most, and return how many."""
    end_s = time.monotonic() + UNDER_WAY_WITHIN_S
    while True:
        rows = target.query(UNDER_WAY, service=SERVICE)
        if (count := rows[0][0] if rows else 0) or time.monotonic() > end_s:
            return int(count)
        sleep(POLL_S)
