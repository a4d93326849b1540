"""Calls of the real adapters in the model: one request at a time, so that anything may happen between two of them.

An adapter is run anew with the answers that its call has had so far, until it makes a request that has none yet. So a
call is a value, and a state can hold it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from chassis.http.downstream import Response, Unavailable, UnforeseenAnswer
from chassis.saga.answers import QueryAnswer
from chassis.saga.unit_of_work import AwaitedAct
from payment.gateways.port import Authorize, Gateway, Requested

ACCOUNT: Final = "account"


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A request of an adapter. ``fields`` are those of its form or of its body, as JSON."""

    method: str
    path: str
    key: str | None
    fields: str

    @property
    def given(self) -> Mapping[str, Any]:
        """The fields by name."""
        given: Mapping[str, Any] = json.loads(self.fields)
        return given


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a gateway; without a status there was none. ``is_stored``: it is that of an earlier request."""

    status: int | None
    body: str = "{}"
    is_stored: bool = False

    def read(self) -> Response:
        """Return it as the client does. Raises Unavailable where it says nothing."""
        if self.status is None:
            raise Unavailable("no answer in time")
        headers = {"idempotent-replayed": "true"} if self.is_stored else {}
        if self.status >= 500:
            raise Unavailable(f"answered {self.status}", headers=headers)
        return Response(dependency=ACCOUNT, status=self.status, body=json.loads(self.body), headers=headers)


NO_ANSWER = Answer(None)


class _Pending(BaseException):
    """A request has no answer yet. It is no Exception: no adapter may handle it."""

    def __init__(self, asked: GatewayRequest) -> None:
        super().__init__(asked.path)
        self.asked = asked


class ScriptedAccount:
    """An account that answers an adapter's requests in their order."""

    name = ACCOUNT

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(reversed(answers))

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Mapping[str, object] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the next answer."""
        if not self._answers:
            given: Mapping[str, object] = dict(form or ()) if body is None else body
            raise _Pending(GatewayRequest(method, path, key, json.dumps(given, sort_keys=True)))
        return self._answers.pop().read()


@dataclass(frozen=True, slots=True)
class Call:
    """A call about an attempt: which request is under way follows from the answers so far.

    ``is_fresh``: its process has made the intent itself, so it need not look at it first. None: not said yet.
    """

    act: AwaitedAct
    number: int
    provider_id: str | None = None
    answers: tuple[Answer, ...] = ()
    is_fresh: bool | None = None


Reached: TypeAlias = GatewayRequest | QueryAnswer | Unavailable | UnforeseenAnswer


def reached(gateway: Gateway, call: Call, request: Requested, key: str) -> Reached:
    """Return the request that the call has come to, or what came of it."""
    try:
        match call.act:
            case AwaitedAct.SEND:
                return gateway.send(request, key)
            case AwaitedAct.QUERY:
                return gateway.query(request, key, call.provider_id)
            case AwaitedAct.CANCEL:
                assert isinstance(request, Authorize), "nothing else is cancelled"
                return gateway.cancel(request, key, call.provider_id)
    except _Pending as pending:
        return pending.asked
    except (Unavailable, UnforeseenAnswer) as failure:
        return failure
