"""Incidents of ServiceNow through its table API. The incident's correlation id is the alarm's.

It is looked up before an incident is created, so that an answer that was lost opens no second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from console.tickets.alarms import Alarm
from console.tickets.itsm import TIMEOUT_S, Applied, Outcome, Ticket, Unavailable, call, secrets_in

INCIDENTS: Final = "/api/now/table/incident"
FIELDS: Final = "sys_id,number,state,description,correlation_id"
IN_PROGRESS, RESOLVED, CLOSED, CANCELLED = "2", "6", "7", "8"
"""States of an incident as ServiceNow delivers them."""
TITLE_MAX: Final = 160
"""The length of ``short_description``."""
TEXT_MAX: Final = 4_000
"""The length of ``description``."""
FOUND_MAX: Final = 5
"""Incidents of one alarm. All calls for one report take less time than its lock lasts."""
URGENCY: Final[Mapping[str, tuple[str, str]]] = {"page": ("1", "2"), "ticket": ("2", "3")}
"""Urgency and impact by the alarm's severity; ServiceNow makes the priority of both."""
LOWEST: Final = ("3", "3")

Json = Any


class ServiceNow:
    """One instance. ``fields`` are set on each new incident besides ours, such as an assignment group."""

    def __init__(
        self, http: httpx.AsyncClient, *, url: str, login_file: Path, fields: Mapping[str, str], close_code: str
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._login_file = login_file
        self._fields = fields
        self._close_code = close_code

    async def apply(self, alarm: Alarm, now: datetime) -> Applied:
        """1. Look the alarm's incidents up. 2. Open or change one; of an alarm that has ended, resolve all."""
        # 1.
        found = await self._open_ones(alarm.correlation_id)
        # 2.
        if not alarm.is_firing:
            return await self._resolve(alarm, found)
        if not found:
            return Applied(outcome=Outcome.OPENED, ticket=await self._create(alarm))
        return await self._change(alarm, found[0])

    async def _open_ones(self, correlation_id: str) -> Sequence[Json]:
        """Return the incidents of an alarm that are neither closed nor cancelled, the oldest first."""
        query = f"correlation_id={correlation_id}^stateNOT IN{CLOSED},{CANCELLED}^ORDERBYsys_created_on"
        answer = await self._call(
            "GET", INCIDENTS, {"sysparm_query": query, "sysparm_limit": str(FOUND_MAX), "sysparm_fields": FIELDS}
        )
        # A condition that it cannot evaluate is left out of the query, which then finds any incident.
        if any(each.get("correlation_id") != correlation_id for each in answer):
            raise Unavailable("ServiceNow did not search by correlation_id: let the user read that field of incidents.")
        found: Sequence[Json] = answer
        return found

    async def _create(self, alarm: Alarm) -> Ticket:
        urgency, impact = URGENCY.get(alarm.severity, LOWEST)
        made = {
            "short_description": alarm.title[:TITLE_MAX],
            "description": alarm.text[:TEXT_MAX],
            "urgency": urgency,
            "impact": impact,
            **self._fields,
            "correlation_id": alarm.correlation_id,
            "correlation_display": "Baraza",
        }
        return self._ticket(await self._call("POST", INCIDENTS, {"sysparm_fields": FIELDS}, made))

    async def _change(self, alarm: Alarm, incident: Json) -> Applied:
        ticket = self._ticket(incident)
        changes: dict[str, str] = {}
        # It stores the ends of lines in its own way.
        if incident["description"].split() != alarm.text[:TEXT_MAX].split():
            changes["description"] = alarm.text[:TEXT_MAX]
        is_resolved = incident["state"] == RESOLVED
        if is_resolved:
            changes |= {"state": IN_PROGRESS, "work_notes": f"The alarm fires again since {alarm.began_at}."}
        if not changes:
            return Applied(outcome=Outcome.UNCHANGED, ticket=ticket)
        await self._patch(incident, changes)
        return Applied(outcome=Outcome.REOPENED if is_resolved else Outcome.UPDATED, ticket=ticket)

    async def _resolve(self, alarm: Alarm, found: Sequence[Json]) -> Applied:
        unresolved = [each for each in found if each["state"] != RESOLVED]
        changes = {
            "state": RESOLVED,
            "close_code": self._close_code,
            "close_notes": "The alarm has ended by itself or by what was done; Alertmanager reports it as resolved.",
            "description": alarm.text[:TEXT_MAX],
        }
        for each in unresolved:
            await self._patch(each, changes)
        if unresolved:
            return Applied(outcome=Outcome.RESOLVED, ticket=self._ticket(unresolved[0]))
        return Applied(outcome=Outcome.NO_TICKET, ticket=self._ticket(found[0]) if found else None)

    async def _patch(self, incident: Json, changes: Mapping[str, str]) -> None:
        await self._call("PATCH", f"{INCIDENTS}/{incident['sys_id']}", {"sysparm_fields": FIELDS}, changes)

    async def _call(self, method: str, path: str, query: Mapping[str, str], body: Json = None) -> Json:
        """Return the result of a call. Raises Unavailable."""
        opens = method == "POST"
        user, _, password = secrets_in(self._login_file)[0].partition(":")
        request = self._http.build_request(
            method,
            f"{self._url}{path}",
            params={**query, "sysparm_exclude_reference_link": "true"},
            json=body,
            headers={"accept": "application/json"},
            timeout=TIMEOUT_S,
        )
        request = next(httpx.BasicAuth(user, password).auth_flow(request))
        response = await call(self._http, request, opens=opens)
        try:
            return response.json()["result"]
        except (ValueError, KeyError, TypeError) as error:
            # An instance that hibernates answers with a page.
            raise Unavailable(f"{method} {path} was answered with no result.", is_uncertain=opens) from error

    def _ticket(self, incident: Json) -> Ticket:
        try:
            number, sys_id = str(incident["number"]), str(incident["sys_id"])
        except (KeyError, TypeError) as error:
            raise Unavailable("ServiceNow's answer has no number.", is_uncertain=True) from error
        return Ticket(number=number, url=f"{self._url}/nav_to.do?uri={quote(f'incident.do?sys_id={sys_id}', safe='')}")
