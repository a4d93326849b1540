"""Runs a provider of mobile money: its API on one event loop, what happens later and its callbacks in threads."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators import short_codes
from simulators.clock import MovedClock
from simulators.export import page
from simulators.mobile import callbacks
from simulators.mobile.callbacks import Happen
from simulators.mobile.doors import Door, Pay
from simulators.mobile.face import Dialect, MobileFace, Operation
from simulators.mobile.faults import Fault
from simulators.mobile.records import MobileRecords
from simulators.problems import EXCEPTION_HANDLERS, Problem
from simulators.records import JsonObject
from simulators.server import load, serve
from simulators.short_codes import MobileMoneySettings, ShortCodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What one process is made of."""

    records: MobileRecords
    short_codes: ShortCodes
    clock: MovedClock
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKind:
    """Everything in which providers of mobile money differ.

    ``happens`` returns what happens without a request, by kind. ``pay`` lets a customer pay, inside a transaction.
    ``routes`` are those that need no token.
    """

    name: str
    dialect: Dialect
    operations: Sequence[Operation]
    happens: Callable[[ShortCodes, int], Mapping[str, Happen]]
    pay: Callable[[Provider, Pay, tuple[Fault, ...]], JsonObject]
    routes: Callable[[Provider], Sequence[Route]]
    others: tuple[str, ...] = ()
    """Names of what faults can be about besides the operations."""


def application(kind: ProviderKind, provider: Provider) -> Starlette:
    """Return the provider's ASGI application."""
    face = MobileFace(provider.records, provider.short_codes, provider.clock, kind.dialect, provider.seed)
    door = Door(
        records=provider.records, short_codes=provider.short_codes, clock=provider.clock, seed=provider.seed,
        operations=(*(each.name for each in kind.operations), *kind.others),
        pay=lambda wanted, faults: kind.pay(provider, wanted, faults),
    )  # fmt: skip
    return Starlette(
        routes=[
            *face.routes(kind.operations),
            *kind.routes(provider),
            *door.routes(),
            *_observed(provider),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


def _observed(provider: Provider) -> tuple[Route, ...]:
    """Return the export of the records, their summary, and whether the process is alive and ready."""

    async def export(request: Request) -> Response:
        return page(provider.records, request)

    async def summary(_request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(provider.records.summary))

    async def alive(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> Response:
        try:
            provider.records.check()
        except sqlite3.Error as error:
            raise Problem(503, "records_unavailable", f"The records cannot be written: {error}.") from error
        return JSONResponse({"status": "ready", "short_codes": len(provider.short_codes.short_codes)})

    found = {"/admin/records": export, "/admin/summary": summary, "/livez": alive, "/readyz": ready}
    return tuple(Route(path, endpoint, methods=["GET"]) for path, endpoint in found.items())


def run(kind: ProviderKind) -> None:
    """Serve a provider until a signal stops the process."""
    settings = load(MobileMoneySettings)
    known, stopping = short_codes.read(settings.simulator_short_codes), threading.Event()
    with MobileRecords.open(settings.simulator_records) as records:
        clock = MovedClock(records, time.time)
        provider = Provider(records=records, short_codes=known, clock=clock, seed=settings.simulator_seed)
        handlers = kind.happens(known, settings.simulator_seed)

        def in_thread(work: Callable[[MobileRecords], None]) -> threading.Thread:
            def run_with_own() -> None:
                try:
                    with MobileRecords.open(settings.simulator_records) as own:
                        work(own)
                except BaseException:
                    os.kill(os.getpid(), signal.SIGTERM)  # Half a provider would look like one that is silent.
                    raise

            thread = threading.Thread(target=run_with_own, daemon=True)
            thread.start()
            return thread

        with ExitStack() as stopped:
            for work in (
                lambda own: callbacks.run_happenings(own, handlers, clock, stopping),
                lambda own: callbacks.run_callbacks(own, clock, stopping),
            ):
                stopped.callback(in_thread(work).join)
            stopped.callback(stopping.set)
            serve(application(kind, provider), settings)
