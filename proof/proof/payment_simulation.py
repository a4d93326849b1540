"""One seeded schedule of merchants' payments, through every service's real handlers, adapters and the real tracker.

Two merchants pay through a gateway of each kind. Authorizations, captures, voids and refunds run while processes crash
and gateways lose answers, store errors, and send webhooks late, twice and in any order; days later captures and refunds
fail, authorizations expire and payers dispute. Then all faults end, and the invariants are checked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from merchant import intake, operations
from proof import rebuilding
from proof.api_workers import ids_of
from proof.checks import Violation
from proof.databases import Database
from proof.payment_checks import FinalPayments, violations
from proof.payment_participants import PaymentParticipants
from proof.resting import SWEEPS_EVERY, Running
from proof.schedule import BEGINNING, Schedule
from proof.service_process import Process
from proof.simulation import Result
from proof.tracker_process import TrackerProcess

FAULTS_MAX_S = 120.0
ACTS = (0, 0, 2, 6)
"""The number of an operator's acts while faults are on."""
REST_WITHIN = timedelta(days=90)
"""Refunds take days, and what fails later fails within some more days."""
OPERATOR_EVERY = timedelta(days=3)
REDRIVES_MAX = 8
"""Where something stays parked for weeks: more redrives find nothing more."""


@dataclass(slots=True, kw_only=True)
class PaymentSimulation(Running):
    """One schedule of these participants."""

    participants: PaymentParticipants

    def run(self) -> Result:
        """Run the schedule to rest, and return what it was, with every invariant that it breaks."""
        result = Result(seed=self.schedule.seed, faults=self.schedule.faults)
        try:
            with ids_of(self.schedule, intake, operations):
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
        there.merchants.plan()
        end_s = chance.uniform(1, FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(end_s), there.operator.act_on_parked)
        schedule.at(schedule.now + timedelta(seconds=end_s), schedule.end_faults)

    def is_tidy(self, actors: Sequence[Process | TrackerProcess]) -> bool:
        """Let payment's task look at what waits once more, besides what every schedule tidies."""
        return Running.is_tidy(self, actors) and not self.participants.reports_once_more()

    def _final_state(self) -> FinalPayments:
        there = self.participants
        return FinalPayments(
            rows=there.database.everything(),
            submitted=there.merchants.submitted,
            accounts=there.accounts,
            broker=there.broker,
            codec=there.codec,
            is_redriven=there.is_redriven,
            outages=there.outages,
            services={name: processes[0].service for name, processes in there.services.items()},
            timeout_factor=there.timeout_factor,
        )


def simulate_payments(seed: int, database: Database, *, is_traced: bool = False) -> Result:
    """Run the schedule of one seed; one that breaks an invariant is run again with a trace, for its last steps."""
    random.seed(seed)
    participants = PaymentParticipants(database=database, schedule=Schedule(seed=seed, is_traced=is_traced))
    result = PaymentSimulation(participants=participants).run()
    return simulate_payments(seed, database, is_traced=True) if result.violations and not is_traced else result
