"""Looks schemas up in the schema registry: the subject of a message, and what is registered under it.

The deploy step registers schemas, with Confluent's client. A service only looks them up, with two requests. It does
without that client, whose many ways to log in take 11 MB of the tracker.

Subjects are named by topic and record, so that several types share a topic and a saga's events stay in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from messages.contract import Message

EVENT_COMPATIBILITY = "FULL_TRANSITIVE"
COMMAND_COMPATIBILITY = "BACKWARD_TRANSITIVE"
TIMEOUT_S = 5.0
AWAY = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
FIRST_WAIT_S = 0.2
RETRIES = 8
"""For a program that runs once: with waits that double from FIRST_WAIT_S it waits for half a minute and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One message type on one topic."""

    topic: str
    message_type: type[Message]

    @property
    def name(self) -> str:
        """The subject's name, by TopicRecordNameStrategy."""
        return f"{self.topic}-{self.message_type.FULL_NAME}"

    @property
    def compatibility(self) -> str:
        """Any service may read events, so they are compatible both ways; only one service reads a command."""
        return COMMAND_COMPATIBILITY if self.topic.endswith(".commands") else EVENT_COMPATIBILITY


class RegistryUnavailable(Exception):
    """The registry gave no answer; the same request may succeed later."""


class RemoteRegistry:
    """A client of Confluent's REST interface. Raises RegistryUnavailable where the registry does not answer.

    A service repeats what failed itself, with signs of life. A program that runs once has a number of ``retries``.
    """

    def __init__(self, url: str, *, retries: int = 0) -> None:
        self._url = url.rstrip("/")
        repeated = Retry(
            retries, allowed_methods=None, status_forcelist=AWAY, raise_on_status=False, backoff_factor=FIRST_WAIT_S
        )
        self._http = urllib3.PoolManager(retries=repeated, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connections, for a user that ends before the process."""
        self._http.clear()

    def id_of(self, subject: Subject) -> int:
        """Return the id of the subject's schema. Raises LookupError, with what to run, where it is not registered."""
        schema = {"schema": subject.message_type.SCHEMA, "schemaType": "AVRO"}
        registered = self._request("POST", f"/subjects/{quote(subject.name, safe='')}", schema)
        if registered is None:
            raise LookupError(
                f"No schema for {subject.name} in the registry; run the deploy step that registers schemas/."
            )
        return int(registered["id"])

    def schema(self, schema_id: int) -> str | None:
        """Return the schema text of an id; None for an id that the registry never issued."""
        registered = self._request("GET", f"/schemas/ids/{schema_id}")
        return None if registered is None else str(registered["schema"])

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """Return the registry's answer, or None for 404."""
        try:
            answer = self._http.request(method, self._url + path, json=body, headers={"Accept": "application/json"})
        except HTTPError as error:
            raise RegistryUnavailable(f"The schema registry gave no answer: {error!r}") from error
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status != HTTPStatus.OK:
            raise RegistryUnavailable(f"The schema registry answered {answer.status}: {answer.data[:200]!r}")
        try:
            found: dict[str, Any] = answer.json()
        except ValueError as error:
            raise RegistryUnavailable(f"The schema registry's answer is no JSON: {answer.data[:200]!r}") from error
        return found
