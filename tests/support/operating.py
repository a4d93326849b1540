"""An operator's act on one saga, as an operator makes it: on what was read of the saga, until it is applied."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx

from support.waiting import until

CHANGED = {"CHANGED": 1}
"""The counts of the plan of an act that was skipped, because its saga changed after it had been read."""


def act(http: httpx.Client, api: str, saga_id: str, what: str, reason: str, operator: Mapping[str, str]) -> None:
    """Act on a saga through the tracker's API at ``api``. One that changes meanwhile is read and acted on again."""

    def counts() -> dict[str, int]:
        saga = f"{api}/v1/sagas/{saga_id}"
        headers = {**operator, "If-Match": http.get(saga, headers=operator).headers["ETag"]}
        answer = http.post(f"{saga}/{what}", json={"reason": reason}, headers=headers)
        if answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            return CHANGED
        assert answer.status_code == HTTPStatus.ACCEPTED, f"{answer.status_code} {answer.text}"
        return applied(http, api, answer.json()["plan_id"], operator)["counts"]

    assert until(counts, f"{what} of {saga_id} is applied", holds=lambda each: each != CHANGED) == {"DONE": 1}


def applied(http: httpx.Client, api: str, plan_id: str, staff: Mapping[str, str]) -> dict[str, Any]:
    """Return a plan once it is applied."""

    def plan() -> dict[str, Any]:
        return http.get(f"{api}/v1/plans/{plan_id}", headers=staff).json()

    return until(plan, f"plan {plan_id} is applied", holds=lambda each: each["state"] == "APPLIED")
