"""Who acts in a run, over the services' own APIs: members, and two persons of staff, for what one alone may not do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from baraza.system.client import Api, Json, problem_of
from baraza.system.running import Running
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

SHORT_CODE, CURRENCY, PROVIDER = "600100", "KES", "daraja"
PROPOSES, DECIDES = "ann", "zuri"
"""Two persons of staff."""
POLL_S: Final = 0.5
STALLED_AFTER_S: Final = 240.0
"""A run is stuck when nothing has changed for this long."""
BUSY: Final = frozenset({429, 500, 503})
"""The request may be sent again under its key."""
IN_PROGRESS: Final = "urn:baraza:problem:idempotency-in-progress"
ATTEMPTS_MAX: Final = 20
RETRY_MAX_S: Final = 5.0


class Stalled(Refusal):
    """Nothing changes any more. See the timelines of what it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The APIs by who calls them."""

    members: Api
    money: Api
    ledger: Api
    decider: Api
    money_decider: Api
    ledger_decider: Api
    provider: Api

    def request(self, path: str, body: Mapping[str, Any], key: str) -> tuple[Json | None, str]:
        """Make a request of members under its key, again while the service is busy.

        Return its answer, or None and the title of the problem for which it was refused. Raises Stalled.
        """
        for _ in range(ATTEMPTS_MAX):
            answer = self.members.send("POST", path, body=dict(body), headers={"Idempotency-Key": key})
            if answer.is_success:
                return self.members.check(answer), ""
            problem = problem_of(answer)
            kind = str(problem.get("type", answer.status_code))
            if answer.status_code not in BUSY and kind != IN_PROGRESS:
                return None, kind.rpartition(":")[2]
            time.sleep(min(float(answer.headers.get("Retry-After", POLL_S)), RETRY_MAX_S))
        raise Stalled(f"members was busy with {path} {ATTEMPTS_MAX} times. See ./baraza status.")

    def post_by_hand(self, entries: Mapping[str, int], reason: str) -> str:
        """Post by hand, as two persons do, and return the posting's id. A debit is positive. Raises Stalled."""
        found = [{"account": path, "amount": str(amount), "currency": CURRENCY} for path, amount in entries.items()]
        body, key = {"entries": found, "reason": reason}, {"Idempotency-Key": new_id()}
        posting = self.ledger.call("POST", "/v1/manual-postings", body=body, headers=key)
        name = str(posting["posting_id"])
        self.ledger_decider.call("POST", f"/v1/manual-postings/{name}/approval", body={"reason": "Checked."})
        follow(
            lambda: self.ledger.get(f"/v1/manual-postings/{name}")["state"],
            lambda state: state in ("POSTED", "FAILED"),
            f"the manual posting {name}",
        )
        return name


@contextmanager
def people(stack: Running) -> Iterator[People]:
    """Yield the APIs, whose connections are closed afterwards."""
    names = {"members": "members", "money": "mobile-money", "ledger": "ledger"}
    apis = {field: stack.api_as(name, PROPOSES) for field, name in names.items()}
    others = {
        "decider": stack.api_as("members", DECIDES),
        "money_decider": stack.api_as("mobile-money", DECIDES),
        "ledger_decider": stack.api_as("ledger", DECIDES),
        "provider": Api(PROVIDER, stack.url(PROVIDER), None),
    }
    try:
        yield People(**apis, **others)
    finally:
        for api in (*apis.values(), *others.values()):
            with api:
                pass


def follow(look: Callable[[], Any], is_over: Callable[[Any], bool], what: str, *, within_s: float | None = None) -> Any:
    """Look until it is over, and return what was seen last.

    Raises Stalled where it has not changed for STALLED_AFTER_S. With ``within_s`` it ends without an error.
    """
    began_s = changed_s = time.monotonic()
    seen = look()
    while not is_over(seen):
        time.sleep(POLL_S)
        now_s, found = time.monotonic(), look()
        if found != seen:
            seen, changed_s = found, now_s
        elif within_s is None and now_s - changed_s > STALLED_AFTER_S:
            raise Stalled(f"Nothing changes any more about {what}: {seen}")
        if within_s is not None and now_s - began_s > within_s:
            break
    return seen
