"""What a provider of mobile money serves besides its API: phones, payments by hand, books, statements, and the admin.

Nothing here exists at a real provider but the statement, which its portal exports. Tests and operators use the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulators.clock import MovedClock
from simulators.mobile import books, phones, statements, tariffs
from simulators.mobile.faults import (
    EVERY,
    FAULTS_MAX,
    STATEMENT,
    Fault,
    Subject,
    met,
    of_header,
)
from simulators.mobile.phones import MSISDN, Phone
from simulators.mobile.records import Entry, MobileRecords
from simulators.mobile.statements import DAMAGES, ROW_INVENTED, Row
from simulators.mobile.tariffs import Tariff
from simulators.mobile.times import DAY_S, day_of
from simulators.problems import Problem, parse, read_body
from simulators.records import JsonObject
from simulators.short_codes import ShortCodes

ADVANCE_S_MAX = 400 * DAY_S
PAGE_MAX = 10_000
FAILED_MAX = 10_000
LENGTH_MAX = 64
"""Of what a payer types: longer than the provider takes, so that a test can try."""
STATEMENT_OPERATION = "statement"


class Strict(BaseModel):
    """A body whose fields are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Advance(Strict):
    """How far to move the clock."""

    advance_s: Annotated[float, Field(ge=0, le=ADVANCE_S_MAX)]


class Pay(Strict):
    """A payment that a customer starts: whole shillings to a short code, with what the customer typed."""

    msisdn: Annotated[str, Field(pattern=MSISDN.pattern)]
    short_code: str
    amount: Annotated[int, Field(ge=1, le=books.TRANSACTION_MAX)]
    bill_reference: Annotated[str, Field(max_length=LENGTH_MAX)] = ""


class Float(Strict):
    """Money that the owner brings to a short code, or with a negative amount takes away."""

    short_code: str
    account: Annotated[str, Field(pattern="^(utility|working)$")] = books.UTILITY
    amount_minor: int


class Planting(Strict):
    """Damage of a statement: of the row of a receipt, or of the newest row of an account."""

    kind: Annotated[str, Field(pattern=f"^({'|'.join(DAMAGES)})$")]
    short_code: str
    account: Annotated[str, Field(pattern=f"^({'|'.join(books.ACCOUNTS)})$")] = books.UTILITY
    receipt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the doors need: ``pay`` lets a customer pay, inside a transaction, and returns what became of it."""

    records: MobileRecords
    short_codes: ShortCodes
    clock: MovedClock
    seed: int
    operations: tuple[str, ...]
    pay: Callable[[Pay, tuple[Fault, ...]], JsonObject]

    def routes(self) -> tuple[Route, ...]:
        """Return the routes."""
        return (
            Route("/phones/{msisdn}", self.show_phone, methods=["GET"]),
            Route("/phones/{msisdn}", self.put_phone, methods=["POST"]),
            Route("/pay", self.pay_in, methods=["POST"]),
            Route("/float", self.change_float, methods=["POST"]),
            Route("/books", self.show_books, methods=["GET"]),
            Route("/statements/{short_code}/{account}", self.statement, methods=["GET"]),
            Route("/admin/reset", self.reset, methods=["POST"]),
            Route("/admin/clock", self.show_clock, methods=["GET"]),
            Route("/admin/clock", self.advance, methods=["POST"]),
            Route("/admin/faults", self.list_faults, methods=["GET"]),
            Route("/admin/faults", self.add_fault, methods=["POST"]),
            Route("/admin/faults", self.clear_faults, methods=["DELETE"]),
            Route("/admin/faults/{id:int}", self.remove_fault, methods=["DELETE"]),
            Route("/admin/callbacks", self.list_callbacks, methods=["GET"]),
            Route("/admin/callbacks/resend", self.resend, methods=["POST"]),
            Route("/admin/tariffs", self.list_tariffs, methods=["GET"]),
            Route("/admin/tariffs", self.add_tariff, methods=["POST"]),
            Route("/admin/damage", self.list_damage, methods=["GET"]),
            Route("/admin/damage", self.damage, methods=["POST"]),
            Route("/admin/damage", self.repair, methods=["DELETE"]),
        )

    def _known(self, short_code: str) -> str:
        if self.short_codes.numbered(short_code) is None:
            known = ", ".join(each.short_code for each in self.short_codes.short_codes)
            raise Problem(404, "short_code_not_found", f"There is no short code {short_code!r}; known: {known}.")
        return short_code

    async def show_phone(self, request: Request) -> Response:
        """Return a phone, with what its wallet has."""
        msisdn = _msisdn(request)
        with self.records.transaction():
            name = books.wallet(self.records, msisdn, self.clock.now())
        shown = {**phones.shown(self.records, msisdn), "balance_minor": self.records.balance(name)}
        return JSONResponse(shown)

    async def put_phone(self, request: Request) -> Response:
        """Set how a phone answers."""
        msisdn, phone = _msisdn(request), parse(Phone, await read_body(request) or b"{}")
        with self.records.transaction():
            phones.put(self.records, msisdn, phone)
            books.wallet(self.records, msisdn, self.clock.now())
        return JSONResponse(phones.shown(self.records, msisdn))

    async def pay_in(self, request: Request) -> Response:
        """Let a customer pay; 409 where the wallet has too little."""
        wanted = parse(Pay, await read_body(request))
        self._known(wanted.short_code)
        given = of_header("c2b", request.headers.get("x-fault", ""))
        try:
            with self.records.transaction():
                made = self.pay(wanted, given)
        except books.TooLittle as error:
            raise Problem(409, "too_little", f"The wallet of {wanted.msisdn} has less than {wanted.amount}.") from error
        return JSONResponse(made, 201)

    async def change_float(self, request: Request) -> Response:
        """Bring money to a short code, or take it away."""
        wanted = parse(Float, await read_body(request))
        name = books.account(self._known(wanted.short_code), wanted.account)
        is_brought = wanted.amount_minor >= 0
        brought = books.Transfer(
            kind=books.FLOAT, source=books.OUTSIDE if is_brought else name, amount_minor=abs(wanted.amount_minor),
            target=name if is_brought else books.OUTSIDE, details={"party": "Bank"},
        )  # fmt: skip
        try:
            with self.records.transaction():
                receipt = books.enter(self.records, brought, self.clock.now())
        except books.TooLittle as error:
            raise Problem(409, "too_little", f"{name} has less than that.") from error
        return JSONResponse({"receipt": receipt, "balance_minor": self.records.balance(name)}, 201)

    async def show_books(self, request: Request) -> Response:
        """Return a page of all entries, the balances of short codes, and whether the books balance."""
        after, limit = int(request.query_params.get("after", "0")), int(request.query_params.get("limit", PAGE_MAX))
        found = self.records.entries_after(after, min(limit, PAGE_MAX))
        balances = {
            name: amount for each in self.short_codes.short_codes
            for name, amount in self.records.balances(f"{each.short_code}:").items()
        }  # fmt: skip
        everything = self.records.balances()
        return JSONResponse({
            "entries": [asdict(each) for each in found],
            "next": found[-1].seq if len(found) == limit else None,
            "balances": balances,
            "sum_minor": sum(everything.values()),
            "unbalanced": self.records.unbalanced(),
        })  # fmt: skip

    async def statement(self, request: Request) -> Response:
        """Return the statement of an account for a day, today without one."""
        short_code, name = self._known(request.path_params["short_code"]), request.path_params["account"]
        if name not in books.ACCOUNTS:
            raise Problem(
                404, "account_not_found", f"There is no account {name!r}; known: {', '.join(books.ACCOUNTS)}."
            )
        text = request.query_params.get("day", day_of(self.clock.now()).isoformat())
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise Problem(400, "invalid_request", f"day is {text!r}; write it like 2026-11-30.") from error
        subject = Subject(operation=STATEMENT_OPERATION, reference=f"{short_code}:{name}:{day}", others=(name,))
        with self.records.transaction():
            found = met(self.records, subject, STATEMENT, now=self.clock.now(), seed=self.seed)
        faults = (*of_header(STATEMENT_OPERATION, request.headers.get("x-fault", "")), *found)
        read = statements.read(self.records, short_code, name, day)
        failed = _failed(self.records, short_code, day) if name == books.UTILITY else []
        return PlainTextResponse(statements.export(read, faults, failed), media_type="text/csv")

    async def reset(self, _request: Request) -> Response:
        """Begin anew, with empty books and by the real time: a test needs no process of its own."""
        self.clock.advance(self.records, self.clock.real() - self.clock.now())
        with self.records.transaction():
            self.records.empty()
        return Response(status_code=204)

    async def show_clock(self, _request: Request) -> Response:
        return JSONResponse({"now": self.clock.now(), "ahead_s": self.clock.now() - self.clock.real()})

    async def advance(self, request: Request) -> Response:
        """Move the clock ahead; what has become due happens in the next round."""
        wanted = parse(Advance, await read_body(request))
        return JSONResponse({"now": self.clock.advance(self.records, wanted.advance_s)})

    async def list_faults(self, _request: Request) -> Response:
        listed = [{"id": number, **Fault.model_validate_json(rule).model_dump(mode="json")}
                  for number, rule in self.records.faults()]  # fmt: skip
        return JSONResponse({"faults": listed})

    async def add_fault(self, request: Request) -> Response:
        """Add a fault that is active from now on, or at its times."""
        fault = parse(Fault, await read_body(request)).scheduled(self.clock.now())
        known = (EVERY, STATEMENT_OPERATION, *self.operations)
        if fault.operation not in known:
            detail = f"There is no operation {fault.operation!r}; known: {', '.join(known)}."
            raise Problem(400, "unknown_operation", detail)
        if len(self.records.faults()) >= FAULTS_MAX:
            raise Problem(409, "too_many_faults", f"{FAULTS_MAX} faults are the maximum. DELETE /admin/faults first.")
        with self.records.transaction():
            number = self.records.add_fault(fault.model_dump_json())
        return JSONResponse({"id": number, **fault.model_dump(mode="json")}, 201)

    async def clear_faults(self, _request: Request) -> Response:
        with self.records.transaction():
            self.records.clear_faults()
        return Response(status_code=204)

    async def remove_fault(self, request: Request) -> Response:
        with self.records.transaction():
            self.records.remove_fault(request.path_params["id"])
        return Response(status_code=204)

    async def list_callbacks(self, request: Request) -> Response:
        """Return callbacks with what became of them: all, or those about something."""
        return JSONResponse({"callbacks": self.records.callbacks(request.query_params.get("about"))})

    async def resend(self, request: Request) -> Response:
        """Send callbacks again, all or those about something: what was lost or not taken, or ``?all=true`` each."""
        states = ("lost", "undelivered", *(("delivered",) if request.query_params.get("all") == "true" else ()))
        with self.records.transaction():
            resent = self.records.resend_callbacks(self.clock.now(), request.query_params.get("about"), states)
        return JSONResponse({"resent": resent})

    async def list_tariffs(self, _request: Request) -> Response:
        return JSONResponse({"tariffs": [each.model_dump(mode="json") for each in tariffs.all_of(self.records)]})

    async def add_tariff(self, request: Request) -> Response:
        """Add a tariff, which is valid from its day on."""
        tariff = parse(Tariff, await read_body(request))
        with self.records.transaction():
            tariffs.add(self.records, tariff)
        return JSONResponse(tariff.model_dump(mode="json"), 201)

    async def list_damage(self, _request: Request) -> Response:
        return JSONResponse({"damage": [asdict(each) for each in self.records.damage()]})

    async def damage(self, request: Request) -> Response:
        """Damage a row of a statement, and return which."""
        wanted = parse(Planting, await read_body(request))
        name = books.account(self._known(wanted.short_code), wanted.account)
        entry = self._entry(name, wanted.receipt)
        with self.records.transaction():
            receipt = entry.receipt
            if wanted.kind == ROW_INVENTED:
                receipt = books.new_receipt(self.records, self.clock.now())
            made = statements.plant(self.records, wanted.kind, entry, receipt)
        return JSONResponse(asdict(made), 201)

    def _entry(self, name: str, receipt: str | None) -> Entry:
        since = self.records.entries(name, 0, float("inf")) if receipt is None else self.records.entries_of(receipt)
        found = [each for each in since if each.account == name]
        if not found:
            raise Problem(404, "receipt_not_found", f"{name} has no row{'' if receipt is None else f' of {receipt}'}.")
        return found[-1]

    async def repair(self, _request: Request) -> Response:
        """Let every statement be right again."""
        with self.records.transaction():
            self.records.clear_damage()
        return Response(status_code=204)


def _msisdn(request: Request) -> str:
    msisdn: str = request.path_params["msisdn"]
    if MSISDN.fullmatch(msisdn) is None:
        raise Problem(400, "invalid_request", f"{msisdn!r} is no phone; write it like 254712345678.")
    return msisdn


def _failed(records: MobileRecords, short_code: str, day: date) -> list[Row]:
    """Return the payouts of a day that failed, as rows."""
    found = []
    for each in records.of_state("payout", "failed", FAILED_MAX):
        at = float(str(each.fields["ended_at"]))
        if each.fields["short_code"] == short_code and day_of(at) == day:
            details: JsonObject = {"party": each.text("msisdn")}
            entry = Entry(
                seq=0, receipt=each.text("receipt"), kind=books.PAY_OUT, at=at, balance_minor=0, details=details,
                account=books.account(short_code, books.UTILITY), amount_minor=-each.amount("amount_minor"),
            )  # fmt: skip
            found.append(Row(entry=entry, status="Declined"))
    return found
