"""What a gateway with accounts serves besides its API: feeds, and the face on which a test moves it.

The admin face moves the clock, lets things happen, closes batches, plants divergences, and shows books and webhooks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulators import accounts as accounts_file
from simulators import books as books_of
from simulators.accounts import Account, Accounts, AccountSettings
from simulators.books import CLOSE, DAY_S, Bookkeeping, Planted
from simulators.clock import MovedClock
from simulators.face import Dialect, Face, Operation
from simulators.gateway_records import GatewayRecords, Happening
from simulators.hooks import WEBHOOK, Happen, Meanwhile, Sign
from simulators.problems import Problem, parse, read_body
from simulators.records import Record
from simulators.server import load, serve
from simulators.simulator import Simulator

ADVANCE_S_MAX = 400 * DAY_S
PLANTED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKind:
    """Everything in which gateways with accounts differ.

    ``later`` returns what can happen without a request, by kind; ``subject_of`` the object that a kind is about, by
    its id or by the caller's reference.
    """

    name: str
    dialect: Dialect
    operations: Sequence[Operation]
    books: Bookkeeping
    sign: Sign
    later: Callable[[Accounts, int], Mapping[str, Happen]]
    subject_of: Callable[[GatewayRecords, str, str], Record | None]


class Advance(BaseModel):
    """How far to move the clock."""

    model_config = ConfigDict(extra="forbid")

    advance_s: Annotated[float, Field(ge=0, le=ADVANCE_S_MAX)]


class Wanted(BaseModel):
    """Something that shall happen: to a payment, a refund, or (``close_batch``) to an account."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    about: str
    after_s: Annotated[float, Field(ge=0, le=ADVANCE_S_MAX)] = 0.0
    reason: str | None = None


class Closing(BaseModel):
    """The accounts whose open batch is closed: all of them without a name."""

    model_config = ConfigDict(extra="forbid")

    account: str | None = None


class Planting(BaseModel):
    """Divergences to plant in an account's reports: about one payment, or about as many as are chosen by the seed."""

    model_config = ConfigDict(extra="forbid")

    account: str
    kind: Planted
    about: str | None = None
    count: Annotated[int, Field(ge=1, le=PLANTED_MAX)] = 1


class Admin:
    """The admin face and the feeds of one gateway."""

    def __init__(
        self, kind: GatewayKind, records: GatewayRecords, accounts: Accounts, clock: MovedClock, face: Face, seed: int
    ) -> None:
        self._kind = kind
        self._records = records
        self._accounts = accounts
        self._clock = clock
        self._face = face
        self._seed = seed
        self._later = {*kind.later(accounts, seed), CLOSE}

    def routes(self) -> tuple[Route, ...]:
        """Return the routes."""
        return (
            Route("/feeds", self.list_feeds, methods=["GET"]),
            Route("/feeds/{name}", self.feed, methods=["GET"]),
            Route("/admin/clock", self.show_clock, methods=["GET"]),
            Route("/admin/clock", self.advance, methods=["POST"]),
            Route("/admin/events", self.want, methods=["POST"]),
            Route("/admin/batches/close", self.close, methods=["POST"]),
            Route("/admin/divergences", self.list_divergences, methods=["GET"]),
            Route("/admin/divergences", self.plant, methods=["POST"]),
            Route("/admin/lines", self.list_lines, methods=["GET"]),
            Route("/admin/webhooks", self.list_webhooks, methods=["GET"]),
            Route("/admin/webhooks/resend", self.resend_webhooks, methods=["POST"]),
        )

    async def list_feeds(self, request: Request) -> Response:
        """List the reports of the account whose key is given, each with its SHA-256."""
        feeds = self._records.feeds(self._caller(request).name)
        listed = [{"name": name, "sha256": sha256(body.encode()).hexdigest()} for name, body in feeds.items()]
        return JSONResponse({"feeds": listed})

    async def feed(self, request: Request) -> Response:
        """Return one report."""
        name = request.path_params["name"]
        body = self._records.feeds(self._caller(request).name).get(name)
        if body is None:
            raise Problem(404, "feed_not_found", f"There is no report {name!r}.")
        return PlainTextResponse(body, media_type="text/csv")

    def _caller(self, request: Request) -> Account:
        account = self._face.account_of(request)
        if account is None:
            raise Problem(401, "unauthorized", "The API key is not one of an account.")
        return account

    async def show_clock(self, _request: Request) -> Response:
        return JSONResponse({"now": self._clock.now(), "ahead_s": self._clock.now() - self._clock.real()})

    async def advance(self, request: Request) -> Response:
        """Move the clock ahead; what has become due happens in the next round."""
        wanted = parse(Advance, await read_body(request))
        return JSONResponse({"now": self._clock.advance(self._records, wanted.advance_s)})

    async def want(self, request: Request) -> Response:
        """Let something happen without a request, now or later."""
        wanted = parse(Wanted, await read_body(request))
        if wanted.kind not in self._later:
            known = ", ".join(sorted(self._later))
            raise Problem(400, "unknown_event", f"kind is {wanted.kind!r}; known: {known}.")
        subject = self._subject(wanted)
        details = {} if wanted.reason is None else {"reason": wanted.reason}
        with self._records.transaction():
            self._records.schedule(wanted.kind, subject, self._clock.now() + wanted.after_s, **details)
        return JSONResponse({"kind": wanted.kind, "about": subject}, 201)

    def _subject(self, wanted: Wanted) -> str:
        if wanted.kind == CLOSE:
            return self._account(wanted.about).name
        record = self._kind.subject_of(self._records, wanted.kind, wanted.about)
        if record is None:
            raise Problem(404, "not_found", f"{self._kind.name} has nothing {wanted.about!r} that this can be about.")
        return record.id

    def _account(self, name: str) -> Account:
        account = self._accounts.named(name)
        if account is None:
            known = ", ".join(each.name for each in self._accounts.accounts)
            raise Problem(404, "account_not_found", f"There is no account {name!r}; known: {known}.")
        return account

    async def close(self, request: Request) -> Response:
        """Close the open batch of one account or of all, and publish its report."""
        wanted = parse(Closing, await read_body(request) or b"{}")
        chosen = self._accounts.accounts if wanted.account is None else (self._account(wanted.account),)
        closed = []
        with self._records.transaction():
            for account in chosen:
                number = books_of.close(self._records, account, self._kind.books, self._clock.now())
                closed += [] if number is None else [{"account": account.name, "batch": number}]
        return JSONResponse({"closed": closed})

    async def plant(self, request: Request) -> Response:
        """Plant divergences, and return each with the payment that it is about."""
        wanted = parse(Planting, await read_body(request))
        account, planted = self._account(wanted.account), []
        with self._records.transaction():
            for _ in range(wanted.count):
                made = books_of.plant(self._records, account, self._kind.books, wanted.kind, wanted.about, self._seed)
                planted += [] if made is None else [made]
        if len(planted) < wanted.count:
            detail = f"{len(planted)} were planted, then no capture was left that nothing is planted about."
            raise Problem(409, "nothing_left", detail)
        return JSONResponse({"planted": planted}, 201)

    async def list_divergences(self, _request: Request) -> Response:
        """Return everything that is planted."""
        names = [account.name for account in self._accounts.accounts]
        return JSONResponse({"planted": [each for name in names for each in self._records.divergences(name)]})

    async def list_lines(self, _request: Request) -> Response:
        """Return the true books, by account and batch."""
        found = [
            {"account": account.name, "batch": number, **line}
            for account in self._accounts.accounts
            for number in range(1, self._records.open_batch(account.name) + 1)
            for _, _, line in self._records.lines(account.name, number)
        ]
        return JSONResponse({"lines": found})

    async def list_webhooks(self, _request: Request) -> Response:
        """Return every webhook with what became of it."""
        return JSONResponse({"webhooks": self._records.hooks()})

    async def resend_webhooks(self, _request: Request) -> Response:
        """Send again what was lost, or not taken in the end, as a merchant requests it on a gateway's own pages."""
        with self._records.transaction():
            resent = self._records.resend_hooks(self._clock.now())
        return JSONResponse({"resent": resent})


def run(kind: GatewayKind) -> None:
    """Serve a gateway; what happens without a request does so in a thread meanwhile."""
    settings = load(AccountSettings)
    accounts = accounts_file.read(settings.simulator_accounts)
    seed, stopping = settings.simulator_seed, threading.Event()
    with GatewayRecords.open(settings.simulator_records) as records:
        clock = MovedClock(records, time.time)
        face = Face(records, accounts, clock, kind.dialect, seed=seed)
        handlers = {**kind.later(accounts, seed), CLOSE: _closing(kind, accounts)}
        _end_days(records, accounts, clock.now())

        def meanwhile() -> None:
            with GatewayRecords.open(settings.simulator_records) as own:
                Meanwhile(accounts=accounts, clock=clock, sign=kind.sign, handlers=handlers).run(own, stopping)

        thread = threading.Thread(target=meanwhile, name="meanwhile", daemon=True)
        thread.start()
        simulator = Simulator(
            kind.name, (), {}, records, seed,
            queries=(*face.routes(kind.operations), *Admin(kind, records, accounts, clock, face, seed).routes()),
            also_faulty=(*(each.name for each in kind.operations), *handlers, WEBHOOK),
        )  # fmt: skip
        serve(simulator.app(), settings)
        stopping.set()
        thread.join()


def _end_days(records: GatewayRecords, accounts: Accounts, now: float) -> None:
    """Let the day of each account end at midnight UTC, from the first start on."""
    with records.transaction():
        known = {each.subject for each in records.due_happenings(float("inf"), 1_000_000) if each.kind == CLOSE}
        for account in accounts.accounts:
            if account.name not in known:
                records.schedule(CLOSE, account.name, now - now % DAY_S + DAY_S, daily=True)


def _closing(kind: GatewayKind, accounts: Accounts) -> Happen:
    def close(records: GatewayRecords, due: Happening, now: float) -> None:
        account = accounts.named(due.subject)
        if account is not None:
            books_of.close(records, account, kind.books, now)
        if due.details.get("daily"):
            records.schedule(CLOSE, due.subject, now - now % DAY_S + DAY_S, daily=True)

    return close
