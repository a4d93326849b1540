"""One seeded schedule of a SACCO, through every service's real handlers, Daraja's adapter and the real tracker.

Members pay in, are prompted and withdraw, while processes crash and the provider loses answers, sends callbacks late,
twice or never, and pays what it has reported as failed. The office imports statements, opens lanes and assigns what
waits. Then all faults end, and the invariants are checked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from members import intake
from proof import rebuilding
from proof.api_workers import ids_of
from proof.checks import Violation
from proof.databases import Database
from proof.resting import SWEEPS_EVERY, Running
from proof.sacco_checks import FinalSacco, violations
from proof.sacco_participants import SaccoParticipants
from proof.schedule import BEGINNING, Schedule
from proof.service_process import Process
from proof.simulation import Result
from proof.tracker_process import TrackerProcess

FAULTS_MAX_S = 120.0
ACTS = (0, 0, 2, 6)
"""The number of an operator's acts while faults are on."""
REST_WITHIN = timedelta(days=60)
"""Callbacks take days, and queries end after a week."""
OPERATOR_EVERY = timedelta(days=3)
REDRIVES_MAX = 5
"""Each lets the queries about what is in doubt go on for a week."""


@dataclass(slots=True, kw_only=True)
class SaccoSimulation(Running):
    """One schedule of these participants."""

    participants: SaccoParticipants

    def run(self) -> Result:
        """Run the schedule to rest, and return what it was, with every invariant that it breaks."""
        result = Result(seed=self.schedule.seed, faults=self.schedule.faults)
        try:
            with ids_of(self.schedule, intake):
                found = self._run(result)
        except Exception as error:  # any exception is what the schedule found
            found = [Violation(invariant="nothing raises", says=f"{type(error).__name__}: {error}")]
        finally:
            self.participants.abandon()
        result.virtual_s = self.virtual_s
        result.violations = [replace(each, steps=self.last_steps(each.saga_id)) for each in found]
        result.trace = tuple(line for _, line in self.schedule.trace)
        return result

    def _run(self, result: Result) -> list[Violation]:
        """Run to rest and check the invariants; then rebuild the tracker's database from the broker's logs."""
        there = self.participants
        self.rest_by, self.operator_every = BEGINNING + REST_WITHIN, OPERATOR_EVERY
        self.redrives_left, self.sweeps_every = REDRIVES_MAX, SWEEPS_EVERY
        self._plan()
        self.until_rest()
        final = self._final_state()
        result.states.update(f"{final.kinds[saga_id]} {state}" for saga_id, state in final.states.items())
        return violations(final) or rebuilding.violations(
            there.database, there.broker, there.codec, now=self.schedule.now
        )

    def _plan(self) -> None:
        schedule, chance, there = self.schedule, self.schedule.chance, self.participants
        for outage in there.outages.planned:
            for process in there.services.get(outage.of, ()):
                schedule.at(outage.began_at, process.kill)
        there.members.plan()
        end_s = chance.uniform(1, FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(end_s), there.operator.act_on_parked)
        schedule.at(schedule.now + timedelta(seconds=end_s), schedule.end_faults)

    def is_tidy(self, actors: Sequence[Process | TrackerProcess]) -> bool:
        """Let the APIs publish what is left over, besides what every schedule tidies."""
        return Running.is_tidy(self, actors) and not self.participants.publishes_leftovers()

    def _final_state(self) -> FinalSacco:
        there = self.participants
        return FinalSacco(
            rows=there.database.everything(),
            requested=there.members.requested,
            daraja=there.daraja,
            has_statement=there.has_statement,
            broker=there.broker,
            codec=there.codec,
            is_redriven=there.is_redriven,
            outages=there.outages,
            services={name: processes[0].service for name, processes in there.services.items()},
            timeout_factor=there.timeout_factor,
        )


def simulate_sacco(seed: int, database: Database, *, is_traced: bool = False) -> Result:
    """Run the schedule of one seed; one that breaks an invariant is run again with a trace, for its last steps."""
    random.seed(seed)
    participants = SaccoParticipants(database=database, schedule=Schedule(seed=seed, is_traced=is_traced))
    result = SaccoSimulation(participants=participants).run()
    return simulate_sacco(seed, database, is_traced=True) if result.violations and not is_traced else result
