"""The stack that chaos acts on: its processes, its network, its messages. Whatever is done here can be undone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime

import tenacity
from psycopg import OperationalError

from baraza.audit.providers import Unreadable
from baraza.audit.sources import TRACKER as TRACKER_DATABASE
from baraza.audit.sources import Row, connect, sources_of
from baraza.chaos.lookup import lookup_environment
from baraza.chaos.messages import MessageFaults
from baraza.chaos.network import Network
from baraza.chaos.versions import Version
from baraza.system.running import TRACKER_API, Running
from baraza.terminal import Refusal
from stack import plan, toxiproxy
from stack.contract import TRACKER, services, starters, token_issuer
from stack.lifecycle import Stack, up
from stack.providers import ACCOUNT_HOLDERS, DARAJA, SIMULATORS, payers
from stack.services import PROXIED, replica_names, workers
from stack.settings import from_environment
from stack.waiting import until

REPLICAS = 2
RESTARTED_WITHIN_S = 60.0
RECENT_SAGAS = 50
CLOSE_REASON = "planted by the chaos run"


def replicas() -> dict[str, int]:
    """Return how many processes each service has here: two, so that one can take over from the other."""
    return dict.fromkeys(workers(), REPLICAS)


@dataclass(slots=True, kw_only=True)
class ChaosTarget:
    """One stack, and the means to inject faults into it."""

    running: Running
    network: Network
    messages: MessageFaults
    violations: list[str] = field(default_factory=list)
    """What a fault itself has found wrong while it lasted."""

    @property
    def stack(self) -> Stack:
        """The stack itself."""
        return self.running.stack

    @property
    def has_payments(self) -> bool:
        """Whether merchants' payments can be made here: their services and the gateways are started."""
        return all(map(self.running.is_started, (token_issuer(), *ACCOUNT_HOLDERS)))

    @property
    def has_sacco(self) -> bool:
        """Whether the money of a SACCO's members can be moved here: their services and the provider are started."""
        return all(map(self.running.is_started, (token_issuer(), DARAJA, *payers())))

    @property
    def processes(self) -> tuple[str, ...]:
        """Every process that may be killed or stopped: the services', the tracker's, the simulators'."""
        ours = {service: count for service, count in replicas().items() if self.running.is_started(service)}
        names = (name for service, count in ours.items() for name in replica_names(service, count))
        return tuple(filter(self.running.is_started, SIMULATORS)) + tuple(names)

    @property
    def participants(self) -> tuple[str, ...]:
        """The services whose absence sagas must survive: those with steps that are started, and the tracker."""
        return (*sorted(filter(self.running.is_started, set(services()) - set(starters()))), TRACKER)

    def send(self, process: str, number: signal.Signals) -> bool:
        """Send a process a signal; return whether there was a process."""
        pid = self.stack.pid(process)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and return when the supervisor has started another in its place."""
        before = self.stack.pid(process)
        self.send(process, number)
        self.await_other(process, before)

    def await_other(self, process: str, before: int) -> None:
        """Wait until another process runs than ``before``. Raises ComponentFailed."""
        until(
            lambda: self.stack.pid(process) not in (0, before),
            what=f"{process} to be started again",
            deadline_s=RESTARTED_WITHIN_S,
        )

    def proxies(self, sides: Iterable[str], targets: Iterable[str] = PROXIED) -> list[str]:
        """Return the proxies through which these sides reach these targets."""
        return [toxiproxy.port_name(side, target) for side in sides for target in targets]

    def release(self) -> None:
        """Continue every stopped process and heal the network. Raises Refusal."""
        for process in (*self.processes, *plan.INFRASTRUCTURE):
            self.send(process, signal.SIGCONT)
        self.network.heal()

    def heal(self) -> None:
        """Undo every fault: release everything, and start the infrastructure. Raises StackError, Refusal."""
        self.release()
        for part in plan.INFRASTRUCTURE:
            self.stack.start(part)

    def run_as(self, service: str, version: Version | None) -> None:
        """Run all processes of a service at a version, or at the present one (None). Raises StackError."""
        path = () if version is None else (version.python_path,)
        variables = lookup_environment(self.stack.home, *path)
        settings = from_environment(home=self.stack.home, proxied=True, environment={service: variables})
        self.running = Running(stack=up(settings))

    def query(self, query: str, *arguments: object, service: str = TRACKER_DATABASE) -> list[Row]:
        """Return the rows of a query on a service's database; none while it is unavailable."""
        try:
            with closing(connect(sources_of(self.running), service)) as connection:
                return connection.execute(query.encode(), arguments).fetchall()
        except (OperationalError, Unreadable):
            return []

    def recent_sagas(self) -> list[str]:
        """Return the ids of the sagas that started last."""
        rows = self.query("SELECT saga_id FROM sagas ORDER BY started_at DESC LIMIT %s", RECENT_SAGAS)
        return sorted(row[0] for row in rows)

    def confirmed_again_at(self, since: datetime, count: int, saga_type: str = "order") -> datetime | None:
        """Return when so many of the sagas that were begun after ``since`` were confirmed; None if they are not yet."""
        rows = self.query(
            "SELECT finished_at FROM sagas WHERE saga_type = %s AND started_at >= %s AND state = 'CONFIRMED'"
            " ORDER BY finished_at OFFSET %s LIMIT 1",
            saga_type,
            since,
            count - 1,
        )
        return rows[0][0] if rows else None

    def close_letters(self) -> None:
        """Close the dead letters of poisons whose sagas ended all the same, as an operator would.

        The sagas of the others are parked, and account for them. A failed request is retried, because the tracker may
        still have a connection that broke with PostgreSQL.
        """
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(RESTARTED_WITHIN_S),
            wait=tenacity.wait_fixed(1),
            retry=tenacity.retry_if_exception_type(Refusal),
            reraise=True,
        ):
            with attempt:
                self._close_letters()

    def _close_letters(self) -> None:
        poisoned = {poison.saga_id for poison in self.messages.poisons}
        with self.running.api(TRACKER_API) as tracker:
            found = tracker.get("/v1/dead-letters")["letters"]
            letter_ids = [each["letter_id"] for each in found if each["saga_id"] in poisoned]
            if letter_ids:
                tracker.call("POST", "/v1/dead-letters/close", body={"letter_ids": letter_ids, "reason": CLOSE_REASON})
