"""One seeded schedule: orders through every service's real handlers and the real tracker, until all is at rest.

While faults are on, processes crash, pause and lose partitions to one another. Messages arrive twice and in any order;
calls fail, hang and lose their answers. Then all faults end, and the invariants are checked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from proof import rebuilding
from proof.checks import CONFIRMED, FinalState, Violation
from proof.databases import Database
from proof.participants import FAULTS_AGAIN_MAX_S, Participants
from proof.resting import OPERATOR_EVERY, REDRIVES_MAX, REST_WITHIN, Running
from proof.return_checks import violations
from proof.schedule import Schedule

ORDERS = (1, 1, 1, 2)
"""The number of orders in a schedule: many small schedules find more than a few large ones."""
ACTS = (0, 0, 2, 10)
"""The number of an operator's acts while faults are on."""
FAULTS_MAX_S = 120.0
REDRIVES_AGAIN_MAX = 2
"""No redrive makes a message deliverable; more of them find nothing more."""
FIRST_ORDERS_S = 5.0
RETURNS_REST_WITHIN = timedelta(days=60)
"""Parcels take up to ten days."""


@dataclass(slots=True, kw_only=True)
class Result:
    """The result of one schedule."""

    seed: int
    faults: Counter[str]
    states: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    virtual_s: float = 0.0
    trace: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Simulation(Running):
    """One schedule of these participants."""

    participants: Participants

    def run(self) -> Result:
        """Run the schedule to rest, and return what it was, with every invariant that it breaks."""
        result = Result(seed=self.schedule.seed, faults=self.schedule.faults)
        try:
            found = self._run(result)
        except Exception as error:  # any exception is what the schedule found
            found = [Violation(invariant="nothing raises", says=f"{type(error).__name__}: {error}")]
        finally:
            for actor in self.participants.disturbances.processes:
                actor.task.abandon()
        result.faults.update(self.participants.undeliverable.counts)
        result.virtual_s = result.virtual_s or self.virtual_s
        result.violations = [replace(each, steps=self.last_steps(each.saga_id)) for each in found]
        result.trace = tuple(line for _, line in self.schedule.trace)
        return result

    def _run(self, result: Result) -> list[Violation]:
        """Run to rest and check the invariants, until some are broken.

        1. Orders are placed, and faults happen.
        2. Pieces of most orders that were confirmed are returned, and faults happen again for days.
        3. In half of the schedules messages come then that no service must handle, and faults happen again.
        4. The tracker's database is emptied and rebuilt from the broker's logs.

        The figures are those of 1., of 2. and the undeliverable messages, so that 3. changes no other figure.
        """
        # 1.
        self._plan()
        self.until_rest()
        final = self._final_state()
        result.states.update(final.order_states.values())
        found = violations(final)
        # 2.
        if not found and self._plan_returns(final):
            self.until_rest()
            final = self._final_state(order_states_before=final.order_states)
            result.states.update(f"return {state}" for state in final.return_states.values())
            found = violations(final)
        result.virtual_s = self.virtual_s
        # 3.
        self.schedule.faults = Counter()
        if not found and self._plan_undeliverable():
            self.until_rest()
            found = violations(self._final_state(states_before=final.states))
        # 4.
        return found or self._differences_after_a_rebuild()

    def _differences_after_a_rebuild(self) -> list[Violation]:
        there = self.participants
        return rebuilding.violations(there.database, there.broker, there.codec, now=self.schedule.now)

    def _final_state(
        self,
        *,
        order_states_before: Mapping[str, str] | None = None,
        states_before: Mapping[str, str] | None = None,
    ) -> FinalState:
        return FinalState(
            rows=self.participants.database.everything(),
            orders=self.participants.customers.orders,
            returns=self.participants.returns.requested,
            pickups=self.participants.pickups,
            gateway=self.participants.gateway,
            courier=self.participants.courier,
            broker=self.participants.broker,
            codec=self.participants.codec,
            is_redriven=self.participants.is_redriven,
            undeliverable=self.participants.undeliverable,
            outages=self.participants.outages,
            services={name: processes[0].service for name, processes in self.participants.services.items()},
            timeout_factor=self.participants.timeout_factor,
            order_states_before=order_states_before,
            states_before=states_before,
        )

    def _plan(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        for outage in self.participants.outages.planned:
            for process in self.participants.services.get(outage.of, ()):
                schedule.at(outage.began_at, process.kill)
        for _ in range(chance.choice(ORDERS)):
            schedule.at(schedule.now + schedule.within(FIRST_ORDERS_S), self.participants.customers.submit)
        end_s = chance.uniform(1, FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(end_s), self.participants.operator.act_on_parked)
        schedule.at(schedule.now + timedelta(seconds=end_s), schedule.end_faults)

    def _plan_returns(self, final: FinalState) -> bool:
        """Plan returns of confirmed orders, and faults among them; return whether there are any."""
        schedule, chance = self.schedule, self.schedule.chance
        confirmed = {saga_id for saga_id, state in final.order_states.items() if state == CONFIRMED}
        if not self.participants.returns.plan(confirmed):
            return False
        schedule.begin_faults(FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(FAULTS_MAX_S), self.participants.operator.act_on_parked)
        self.redrives_left = REDRIVES_MAX
        self.rest_by = schedule.now + RETURNS_REST_WITHIN
        self.operator_at = schedule.now + OPERATOR_EVERY
        return True

    def _plan_undeliverable(self) -> bool:
        """Plan undeliverable messages and faults among them; return whether there are any."""
        schedule = self.schedule
        if not self.participants.undeliverable.plan():
            return False
        schedule.begin_faults(FAULTS_AGAIN_MAX_S)
        self.redrives_left = min(self.redrives_left, REDRIVES_AGAIN_MAX)
        self.rest_by = schedule.now + REST_WITHIN
        self.operator_at = max(self.operator_at, self.rest_by)
        return True


def simulate(seed: int, database: Database, *, is_traced: bool = False) -> Result:
    """Run the schedule of one seed; one that breaks an invariant is run again with a trace, for its last steps."""
    random.seed(seed)
    participants = Participants(database=database, schedule=Schedule(seed=seed, is_traced=is_traced))
    result = Simulation(participants=participants).run()
    return simulate(seed, database, is_traced=True) if result.violations and not is_traced else result
