"""The door of callbacks: a body is stored as it came, together with others that come now, and answered at once.

It decides nothing, and answers every body alike: a provider repeats nothing for sure, and an error would lose it. The
secret segment of the path is what admits a caller; nothing of a wrong one is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy import Engine

from chassis.http.problem import Problem
from chassis.telemetry import metrics
from chassis.wire.envelope import NewId
from mobile_money import daraja_bodies, momo_bodies, raw_callbacks
from mobile_money.raw_callbacks import RawCallback
from mobile_money.short_codes import ShortCode, ShortCodes

KINDS: Final[Mapping[str, tuple[str, ...]]] = {"daraja": daraja_bodies.KINDS, "momo": (momo_bodies.KIND,)}
ACCEPTED: Final = {"ResultCode": 0, "ResultDesc": "Accepted"}
HEADERS_KEPT: Final = ("content-type", "user-agent", "date", "x-forwarded-for")
STORED_MAX: Final = 500
LINGER_S: Final = 0.001
"""What comes within it shares a commit, whose fsync alone takes as long."""
STORED_WITHIN_S: Final = 5.0
STOP_WITHIN_S: Final = 3.0
VALIDATED_WITHIN_S: Final = 2.0
"""The provider waits for eight seconds, and then lets the payment go on by itself."""
GOES_ON: Final = {"ResultCode": "0", "ResultDesc": "Accepted"}
WRONG_ACCOUNT: Final = {"ResultCode": "C2B00012", "ResultDesc": "Rejected"}
WRONG_SHORT_CODE: Final = {"ResultCode": "C2B00015", "ResultDesc": "Rejected"}

log = structlog.get_logger()


class Inbox:
    """A runner that stores callbacks, all that wait in one transaction. ``on_stored`` is called after each."""

    def __init__(self, engine: Engine, on_stored: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._on_stored = on_stored
        self._waiting: queue.SimpleQueue[tuple[RawCallback, asyncio.Future[bool]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="inbox", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, and end."""
        self._waiting.put(None)
        self._thread.join(STOP_WITHIN_S)

    async def store(self, callback: RawCallback) -> bool:
        """Store a callback, and return whether it is committed."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.put((callback, stored))
        try:
            return await asyncio.wait_for(stored, STORED_WITHIN_S)
        except TimeoutError:
            return False

    def _loop(self) -> None:
        while (first := self._waiting.get()) is not None:
            time.sleep(LINGER_S)
            batch, is_last = [first], False
            while len(batch) < STORED_MAX and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    is_last = True
                    break
                batch.append(following)
            self._store(batch)
            if is_last:
                return

    def _store(self, batch: list[tuple[RawCallback, asyncio.Future[bool]]]) -> None:
        try:
            with self._engine.begin() as tx:
                raw_callbacks.store(tx, [callback for callback, _ in batch])
            is_stored = True
        except Exception:  # without a database nothing can be kept, and no answer may say that it is
            log.exception("Callbacks could not be stored; none of them is answered as accepted.", count=len(batch))
            is_stored = False
        for _, stored in batch:
            stored.get_loop().call_soon_threadsafe(_resolve, stored, is_stored)
        if is_stored:
            self._on_stored()


def _resolve(stored: asyncio.Future[bool], is_stored: bool) -> None:
    if not stored.done():
        stored.set_result(is_stored)


def routes(
    short_codes: ShortCodes,
    inbox: Inbox,
    closed: Callable[[str], str | None],
    *,
    clock: Callable[[], datetime],
    new_id: NewId,
) -> APIRouter:
    """Return the routes of callbacks. They take no token. ``closed`` says why a reference takes no payment any more."""
    router = APIRouter(route_class=APIRoute)  # not strict: a provider sends a callback as it likes, and only once
    by_name = {each.name: each for each in short_codes.short_codes}

    @router.api_route("/v1/callbacks/{name}/{secret}/{kind}", methods=["POST", "PUT"], include_in_schema=False)
    async def take_callback(name: str, secret: str, kind: str, request: Request) -> JSONResponse:
        found = by_name.get(name)
        if found is None or kind not in KINDS[found.provider] or not _is_secret(found, secret):
            metrics.CALLBACKS.labels("unknown", "refused").inc()
            raise Problem(status=404, detail="There is nothing here.")
        body = await request.body()
        if kind == daraja_bodies.VALIDATION:
            return JSONResponse(await _validated(found, body, closed))
        callback = RawCallback(
            id=new_id(),
            name=name,
            kind=kind,
            remote="" if request.client is None else request.client.host,
            headers=json.dumps([pair for pair in request.headers.items() if pair[0] in HEADERS_KEPT]),
            body=body,
            body_sha256=hashlib.sha256(body).hexdigest(),
            received_at=clock(),
        )
        if not await inbox.store(callback):
            metrics.CALLBACKS.labels(name, "unstored").inc()
            raise Problem(status=503, detail="It could not be stored.", headers={"Retry-After": "1"})
        metrics.CALLBACKS.labels(name, "stored").inc()
        return JSONResponse(ACCEPTED)

    return router


def _is_secret(short_code: ShortCode, secret: str) -> bool:
    return any(hmac.compare_digest(each.encode(), secret.encode()) for each in short_code.callback_secrets)


async def _validated(short_code: ShortCode, body: bytes, closed: Callable[[str], str | None]) -> Mapping[str, object]:
    """Return whether a payment may go on, from what is known here. In doubt it may: in suspense it is better off."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        read = None
    values = read if isinstance(read, dict) else {}
    if str(values.get("BusinessShortCode", short_code.short_code)) != short_code.short_code:
        return WRONG_SHORT_CODE
    reference = values.get("BillRefNumber")
    if isinstance(reference, str) and await _reason(closed, reference) is not None:
        metrics.CALLBACKS.labels(short_code.name, "rejected").inc()
        return WRONG_ACCOUNT
    metrics.CALLBACKS.labels(short_code.name, "validated").inc()
    return GOES_ON


async def _reason(closed: Callable[[str], str | None], reference: str) -> str | None:
    """Return why a reference takes no payment any more; None where that is not known, or not in time."""
    try:
        with anyio.fail_after(VALIDATED_WITHIN_S):
            return await anyio.to_thread.run_sync(closed, reference, abandon_on_cancel=True)
    except Exception as error:  # whatever is wrong here, the payer must not be refused for it
        log.warning("A validation could not read the references; the payment goes on.", error=str(error))
        return None
