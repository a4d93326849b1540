"""Requests that Daraja takes now and processes later: an acknowledgement, then a result, or a queue's timeout before.

A product declares how one of its requests is processed. This module must not know what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import uuid4

from simulators.daraja import credentials
from simulators.daraja.results import Outcome, Result
from simulators.face import Reply
from simulators.gateway_records import Happening
from simulators.mobile import books, callbacks
from simulators.mobile.callbacks import Told
from simulators.mobile.face import Call
from simulators.mobile.faults import Fault, Kind, Subject, first, restored, stored
from simulators.mobile.records import MobileRecords
from simulators.mobile.times import local
from simulators.records import JsonObject, Record

PROCESSED, TIMED_OUT, PAID_AFTER = "processed", "timed_out", "paid_after"
RESULT_S = 0.05
"""How long a request takes unless a fault wants otherwise."""
INITIATORS_FAULTS = (credentials.WRONG, credentials.LOCKED)

Process = Callable[[MobileRecords, Record, float], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A kind of request: how it is processed, and whether its result has its code as text."""

    operation: str
    process: Process
    is_code_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a product keeps of a request that is valid."""

    kind: str
    originator: str
    result_url: str
    timeout_url: str
    credential: str
    others: tuple[str, ...] = ()
    occasion: str = ""
    fields: JsonObject = field(default_factory=dict)


def accept(call: Call, taken: Taken) -> Reply:
    """Keep a request for later, and return its acknowledgement. It runs inside a transaction."""
    conversation = f"AG_{local(call.now):%Y%m%d}_{uuid4().hex[:20]}"
    record = Record(
        kind=taken.kind, id=conversation, reference=taken.originator, state="queued",
        fields={
            **taken.fields, "short_code": call.short_code.short_code, "result_url": taken.result_url,
            "timeout_url": taken.timeout_url, "credential": taken.credential, "occasion": taken.occasion,
            "request": call.params, "faults": stored(call.kept), "others": list(taken.others),
            "accepted_at": call.now,
        },
    )  # fmt: skip
    call.records.add(record)
    timeout, late = first(call.kept, Kind.QUEUE_TIMEOUT), first(call.kept, Kind.LATE_RESULT)
    if timeout is not None:
        call.records.schedule(TIMED_OUT, conversation, call.now + RESULT_S, product=taken.kind)
    waits = [each.delay_s for each in (timeout, late) if each is not None]
    call.records.schedule(PROCESSED, conversation, call.now + RESULT_S + sum(waits), product=taken.kind)
    return Reply(
        status=200,
        body={
            "ConversationID": conversation, "OriginatorConversationID": taken.originator, "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        },
    )  # fmt: skip


def conversation_of(reply: Reply) -> str:
    """Return what the callbacks of an acknowledged request are about."""
    return str(reply.body.get("ConversationID", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What happens to requests that were taken."""

    products: Mapping[str, Product]
    seed: int

    def timed_out(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Send the original request to the queue's timeout: nothing is known of its outcome."""
        record = _record(records, due)
        request = record.fields["request"]
        assert isinstance(request, dict), "it was written by accept"
        self._tell(records, record, record.text("timeout_url"), lambda _faults: dict(request), now)

    def processed(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Process a request, and send its result."""
        record, product = _record(records, due), self.products[str(due.details["product"])]
        forced = first(restored(record.fields["faults"]), Kind.RESULT)
        code = record.text("credential")
        if forced is not None and forced.code not in (None, "0"):
            code = str(forced.code)
        outcome = product.process(records, record, now) if code == "0" else Outcome(code=code)
        if forced is not None and forced.paid_after_s is not None and outcome.code != "0":
            records.schedule(PAID_AFTER, record.id, now + forced.paid_after_s, product=record.kind)
        self._end(records, record, product, outcome, now)

    def paid_after(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Process a request after its result said that it failed, and send the other result."""
        record, product = _record(records, due), self.products[str(due.details["product"])]
        self._end(records, record, product, product.process(records, record, now), now)

    def _end(
        self, records: MobileRecords, record: Record, product: Product, outcome: Outcome, now: float
    ) -> None:  # fmt: skip
        if not outcome.receipt:
            outcome = replace(outcome, receipt=_placeholder(records, outcome.code, now))
        state = "completed" if outcome.code == "0" else "failed"
        ended = record.become(state, code=outcome.code, receipt=outcome.receipt, ended_at=now)
        records.update(ended)
        result = Result(
            outcome=outcome, originator=record.reference, conversation=record.id, occasion=record.text("occasion"),
            timeout_url=record.text("timeout_url"), is_code_text=product.is_code_text,
        )  # fmt: skip
        self._tell(records, ended, record.text("result_url"), result.body, now)

    def _tell(
        self, records: MobileRecords, record: Record, url: str, shape: callbacks.Shape, now: float
    ) -> None:  # fmt: skip
        others = record.fields["others"]
        assert isinstance(others, list), "it was written by accept"
        subject = Subject(
            operation=self.products[record.kind].operation, reference=record.reference,
            others=(record.id, record.text("receipt"), *map(str, others)),
        )  # fmt: skip
        own: tuple[Fault, ...] = restored(record.fields["faults"])
        told = Told(url=url, about=record.id, subject=subject, shape=shape, own=own)
        callbacks.tell(records, told, now=now, seed=self.seed)


def _record(records: MobileRecords, due: Happening) -> Record:
    record = records.find(str(due.details["product"]), due.subject)
    assert record is not None, "requests are never deleted"
    return record


def _placeholder(records: MobileRecords, code: str, now: float) -> str:
    """Return the receipt of what moved no money: the core's own, or one that is no receipt of anything."""
    if code in INITIATORS_FAULTS or code == "0":
        return f"{books.new_receipt(records, now)[:3]}0000000"
    return books.new_receipt(records, now)
