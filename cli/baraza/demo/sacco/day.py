"""A day: loans are paid out, then members pay in, take out and repay at their times, and the float runs out at noon."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from baraza.demo.sacco.plan import Act, Kind, Plan
from baraza.storefront.sacco.people import SHORT_CODE, People, follow
from baraza.storefront.sacco.treasury import bring_float, utility_minor
from baraza.system.client import Api, objects
from baraza.terminal import Advance

ACTS_AT_ONCE: Final = 16
PAGE: Final = 500
DOUBT_AFTER: Final = timedelta(minutes=1)
"""Later than this the next query about a request may be minutes away, which are not waited for: it is listed."""
FINAL: Final = frozenset({"PAID", "FAILED", "CANCELLED"})
ENDED_RECEIPTS: Final = frozenset({"ALLOCATED", "SUSPENSE", "RETURNED"})


@dataclass(slots=True, kw_only=True)
class Day:
    """What happened: receipts by their numbers, and requests by their ids, each as it was seen last. Thread-safe."""

    receipts: dict[str, Act] = field(default_factory=dict)
    withdrawals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    collections: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    repayments: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, into: dict[str, Any], key: str, value: Any) -> None:
        """Record one result."""
        with self._lock:
            into[key] = value

    def refused(self, why: str) -> None:
        """Count a refusal."""
        with self._lock:
            self.refusals[why] += 1

    def states(self, requests: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
        """Count requests by state."""
        return Counter(str(each["state"]) for each in requests.values())


def pay_out_loans(people: People, plan: Plan) -> Counter[str]:
    """Apply for the loans, approve them as two persons, and wait until each is paid out or refused. Raises Stalled."""
    for loan in plan.loans:
        body = {
            "loan_id": loan.loan_id, "member_id": loan.member_id, "principal_minor": loan.principal * 100,
            "interest_ppm": 120_000, "term_months": 12,
        }  # fmt: skip
        people.members.call("POST", "/v1/loans", body=body)
        people.members.call("POST", f"/v1/loans/{loan.loan_id}/appraisal", body={"reason": "Pays on time."})
        people.decider.call("POST", f"/v1/loans/{loan.loan_id}/approval", body={"reason": "Within the limit."})

    def states() -> Counter[str]:
        found = [people.members.get(f"/v1/loans/{loan.loan_id}") for loan in plan.loans]
        return Counter("FAILED" if _failed(each) else str(each["state"]) for each in found)

    found: Counter[str] = follow(
        states, lambda seen: not seen.keys() - {"ACTIVE", "PAID", "FAILED"}, "loans that are paid out"
    )
    return found


def _failed(loan: Mapping[str, Any]) -> bool:
    return any(part["state"] == "FAILED" for part in loan["parts"])


def live(people: People, day: Day, acts: Sequence[Act], run: str, length_s: float, show: Advance) -> None:
    """Let members act, each at the act's moment of ``length_s``, or as soon after it as it can."""
    began_s = time.monotonic()
    with ThreadPoolExecutor(ACTS_AT_ONCE) as threads:
        doing = []
        for act in acts:
            time.sleep(max(0.0, began_s + act.at * length_s - time.monotonic()))
            if act.kind is Kind.FLOAT_GONE:
                _lose_float(people)
            else:
                doing.append(threads.submit(_act, people, day, act, run))
            show(1)
        for each in doing:
            each.result()


def _act(people: People, day: Day, act: Act, run: str) -> None:
    key = f"{run}-{act.number}"
    if act.kind in (Kind.PAY, Kind.REPAY):
        body = {
            "msisdn": act.phone, "short_code": SHORT_CODE, "amount": act.amount, "bill_reference": act.reference
        }  # fmt: skip
        found = people.provider.call("POST", "/pay", body=body)
        if found["state"] == "completed":
            day.took(day.receipts, str(found["receipt"]), act)
        else:
            day.refused("the payer's wallet")
    elif act.kind is Kind.PROMPT:
        people.provider.call("POST", f"/phones/{act.phone}", body=dict(act.answer or {}))
        _request(people, day, day.collections, "/v1/collections", act, key)
    elif act.kind is Kind.WITHDRAW:
        _request(people, day, day.withdrawals, "/v1/withdrawals", act, key)
    else:
        _request(people, day, day.repayments, "/v1/repayments", act, key)


def _request(people: People, day: Day, into: dict[str, Any], path: str, act: Act, key: str) -> None:
    body: dict[str, Any] = {"member_id": act.member_id, "amount_minor": act.amount * 100}
    if act.kind is Kind.REPAY_FROM_SAVINGS:
        body["loan_id"] = act.loan_id
    answer, refusal = people.request(path, body, key)
    if answer is None:
        day.refused(refusal)
    else:
        day.took(into, str(answer["id"]), answer)


def _lose_float(people: People) -> None:
    """Take away all float, so that payouts fail by our fault until treasury finds the paused lane."""
    bring_float(people, -utility_minor(people))


def settle(people: People, day: Day, show: Callable[[str], None]) -> None:
    """Follow every request and receipt until each is ended, or in doubt for DOUBT_AFTER. Raises Stalled."""
    for name, requests in _named(day):
        show(f"Following {len(requests)} {name}.")
        follow(partial(_unended, people, name, requests), lambda waiting: not waiting, name)
    show(f"Following {len(day.receipts)} receipts.")
    follow(partial(_unknown, people, day), lambda waiting: not waiting, "receipts")


def _named(day: Day) -> Sequence[tuple[str, dict[str, Mapping[str, Any]]]]:
    return ("repayments", day.repayments), ("collections", day.collections), ("withdrawals", day.withdrawals)


def _unended(people: People, name: str, requests: dict[str, Mapping[str, Any]]) -> list[str]:
    """Return which of these requests are neither final nor in doubt for long."""
    if not (waiting := _read(people.members, name, requests)):
        return []
    before = datetime.now(UTC) - DOUBT_AFTER
    found = {
        str(each["saga_id"]) for each in named_in_doubt(people) if datetime.fromisoformat(str(each["since"])) < before
    }
    return [each for each in waiting if each not in found]


def _read(api: Api, name: str, requests: dict[str, Mapping[str, Any]]) -> list[str]:
    """Read those that are not final, and return which these are."""
    waiting = [each for each, found in requests.items() if not found["is_final"]]
    with ThreadPoolExecutor(ACTS_AT_ONCE) as threads:
        found = threads.map(lambda each: api.get(f"/v1/{name}/{each}"), waiting)
        requests.update(zip(waiting, found, strict=True))
    return [each for each in waiting if not requests[each]["is_final"]]


def _unknown(people: People, day: Day) -> list[str]:
    """Return the receipts of the day that members do not have as ended."""
    ended = {str(each["receipt"]) for state in ENDED_RECEIPTS for each in receipts(people, state)}
    return sorted(day.receipts.keys() - ended)


def receipts(people: People, state: str) -> Iterator[Mapping[str, Any]]:
    """Yield the receipts in this state, as members know them."""
    params: dict[str, str | int] = {"state": state, "limit": PAGE}
    while True:
        page = people.members.get("/v1/receipts", params)
        yield from objects(page, "receipts")
        if page["next"] is None:
            return
        params |= {"after_at": str(page["next_at"]), "after": str(page["next"])}


def named_in_doubt(people: People) -> Sequence[Mapping[str, Any]]:
    """Return the money whose outcome is not proven, the oldest first."""
    return objects(people.money.get("/v1/money/in-doubt", {"limit": 1_000}), "in_doubt")
