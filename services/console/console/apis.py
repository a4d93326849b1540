"""The services' APIs, called with the person's own access token. The APIs are the only judges of what that may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

TRACKER, LEDGER, PAYMENT, SHIPPING, MERCHANT, RECONCILIATION = (
    "saga-tracker-api", "ledger", "payment", "shipping", "merchant", "reconciliation",
)  # fmt: skip
NOTIFIER, MEMBERS, MOBILE_MONEY = "notifier", "members", "mobile-money"
TIMEOUT_S = 5.0
"""Longer than any query of the APIs may take."""
CONNECTIONS_MAX = 200
"""One for each live timeline, and some for pages."""

Json = Any
Query = Mapping[str, str | int | Sequence[str]]


class ApiProblem(Exception):
    """A service did not do what a page needed. ``status`` is what the page answers with."""

    def __init__(self, service: str, status: int, title: str, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.service = service
        self.status = status
        self.title = title
        self.detail = detail
        self.kind = kind


class NotRunning(ApiProblem):
    """The service is not part of this deployment, so that there is nothing to show."""

    def __init__(self, service: str) -> None:
        super().__init__(service, 503, f"{service} is not running", f"This deployment does not run {service}.")


class Unreachable(ApiProblem):
    """The service does not answer now."""

    def __init__(self, service: str, why: str) -> None:
        detail = f"{service} does not answer ({why}). Nothing is known of its data now; try again shortly."
        super().__init__(service, 503, f"{service} does not answer", detail)


class Apis:
    """The APIs of all services."""

    def __init__(self, urls: Mapping[str, str], http: httpx.AsyncClient) -> None:
        self._urls = urls
        self._http = http

    def has(self, service: str) -> bool:
        """Return whether this deployment runs a service."""
        return service in self._urls

    def as_person(self, access_token: str) -> PersonsApis:
        """Return the APIs as one person may use them."""
        return PersonsApis(self, access_token)

    async def request(
        self, service: str, method: str, path: str, headers: Mapping[str, str], query: Query | None, body: Json
    ) -> httpx.Response:
        """Make one call. Raises NotRunning, Unreachable."""
        try:
            return await self._http.request(
                # An empty query would take away the one in the path.
                method,
                self.url(service, path),
                params=query or None,
                json=body,
                headers=headers,
                timeout=TIMEOUT_S,
            )
        except httpx.HTTPError as error:
            raise Unreachable(service, type(error).__name__) from error

    def url(self, service: str, path: str) -> str:
        """Return the address of a resource. Raises NotRunning."""
        if service not in self._urls:
            raise NotRunning(service)
        return f"{self._urls[service].rstrip('/')}{path}"

    @asynccontextmanager
    async def stream(self, service: str, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Open a stream of events. Raises NotRunning, Unreachable, ApiProblem."""
        # The stream sends something every few seconds.
        timeout = httpx.Timeout(TIMEOUT_S, read=30.0)
        try:
            async with self._http.stream("GET", self.url(service, path), headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise problem_of(service, response)
                yield response
        except httpx.HTTPError as error:
            raise Unreachable(service, type(error).__name__) from error


class PersonsApis:
    """The APIs as one person may use them."""

    def __init__(self, apis: Apis, access_token: str) -> None:
        self._apis = apis
        self._headers = {"Authorization": f"Bearer {access_token}"}

    def has(self, service: str) -> bool:
        """Return whether this deployment runs a service."""
        return self._apis.has(service)

    async def get(self, service: str, path: str, **query: str | int | Sequence[str] | None) -> Json:
        """Return what an API has. Raises ApiProblem."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return checked(service, await self._apis.request(service, "GET", path, self._headers, given, None))

    async def tagged(self, service: str, path: str) -> tuple[Json, str]:
        """Return what an API has, and its entity tag, for an act on exactly that. Raises ApiProblem."""
        response = await self._apis.request(service, "GET", path, self._headers, None, None)
        return checked(service, response), response.headers.get("etag", "")

    async def post(self, service: str, path: str, body: Json, *, if_match: str = "") -> Json:
        """Let an API act, and return its answer. Raises ApiProblem."""
        headers = {**self._headers, "If-Match": if_match} if if_match else self._headers
        return checked(service, await self._apis.request(service, "POST", path, headers, None, body))

    async def each(self, *calls: tuple[str, str]) -> list[Json]:
        """Return what several APIs have, at once; of each that has nothing its ApiProblem."""
        return await asyncio.gather(*(self._attempt(*call) for call in calls))

    def stream(self, service: str, path: str, after: str) -> Any:
        """Open a stream of events behind the entry ``after``. Raises ApiProblem."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        return self._apis.stream(service, path, {**headers, "Last-Event-ID": after} if after else headers)

    async def _attempt(self, service: str, path: str) -> Json | ApiProblem:
        try:
            return await self.get(service, path)
        except ApiProblem as problem:
            return problem


def checked(service: str, response: httpx.Response) -> Json:
    """Return a response's JSON. Raises ApiProblem."""
    if response.status_code >= 400:
        raise problem_of(service, response)
    try:
        return response.json() if response.content else {}
    except ValueError as error:
        raise Unreachable(service, "its answer is no JSON") from error


def problem_of(service: str, response: httpx.Response) -> ApiProblem:
    """Return the problem that a service answered with (RFC 9457)."""
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    title, detail = str(answer.get("title") or response.reason_phrase), str(answer.get("detail") or "")
    return ApiProblem(service, response.status_code, title, detail, str(answer.get("type") or ""))
