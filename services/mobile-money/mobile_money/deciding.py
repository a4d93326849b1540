"""What is decided about callbacks: matched with what was requested, compared with it, and handed on as evidence.

A callback is a hint. It must agree with what was requested in amount, short code and phone; from an address that is
none of the provider's it decides nothing. What brings money is a receipt, whatever became of a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from chassis.saga import attempt_rows, evidence
from chassis.saga.attempts import AttemptState, Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.saga.outbox import OutboxRow
from chassis.wire.envelope import derived_id
from mobile_money import daraja_bodies, floats, lanes, momo_bodies, questions, raw_callbacks, readings, tariffs
from mobile_money.agreement import differs, disagrees
from mobile_money.arrivals import of_payment, of_prompt
from mobile_money.codes import Meaning
from mobile_money.domain import Lane, LaneId
from mobile_money.intake import Deciding, take_in
from mobile_money.known import Known, KnownPrompt, KnownRequest, kept_detail, look_up, reversal_by_id
from mobile_money.port import Paid, Refused
from mobile_money.questions import QuestionKind
from mobile_money.raw_callbacks import CallbackFate, Fate, RawCallback
from mobile_money.receipts import Arrival, Door
from mobile_money.reports import Balances, End, Payment, PromptEnd, Queued, Report
from mobile_money.short_codes import ShortCode

SEND_REVERSAL: Final = "send_reversal"
REFERENCE_WAITED_FOR: Final = 4
"""So often a prompt's payment is matched in vain before it is taken in without its prompt: for half a minute."""

log = structlog.get_logger()


@dataclass(slots=True)
class Decisions:
    """What a batch leads to."""

    fates: list[Fate] = field(default_factory=list)
    evidence: list[Received] = field(default_factory=list)
    arrivals: list[tuple[Arrival, str | None]] = field(default_factory=list)
    """Each with the id of the callback that brought it."""
    rows: list[OutboxRow] = field(default_factory=list)


def read(callback: RawCallback, provider: str) -> Report:
    """Return what a callback reports. Raises ValueError for one of another form."""
    try:
        body = json.loads(callback.body)
    except ValueError as error:
        raise ValueError("It is no JSON") from error
    if provider == daraja_bodies.PROVIDER:
        return daraja_bodies.read(callback.kind, body)
    return momo_bodies.read(callback.kind, body)


def decide(
    tx: Connection, deciding: Deciding, *, now: datetime, limit: int = raw_callbacks.DECIDED_MAX
) -> Decisions | None:
    """Decide about the callbacks that are due; None where there is none. The rows are published after the commit.

    1. Each is read. What cannot be read is refused, and listed.
    2. What they are about is looked up once.
    3. One after the other is decided, evidence is stored, and money is taken in.
    """
    callbacks = raw_callbacks.take(tx, now=now, limit=limit)
    if not callbacks:
        return None
    batch = _Batch(tx, deciding, now)
    # 1.
    read_ones: list[tuple[RawCallback, ShortCode, Report]] = []
    for each in callbacks:
        try:
            short_code = deciding.named(each.name)
        except LookupError as error:
            batch.orphan(each, str(error))
            continue
        try:
            read_ones.append((each, short_code, read(each, short_code.provider)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            batch.refuse(each, f"unreadable: {error}"[:200])
    # 2.
    known = look_up(tx, **_ids(read_ones))
    seen = raw_callbacks.known_bodies(tx, callbacks)
    # 3.
    for callback, short_code, report in read_ones:
        if callback.body_sha256 in seen:
            batch.done(callback, CallbackFate.DUPLICATE, "the same body was applied before")
            continue
        batch.decide(callback, short_code, report, known)
        if batch.decisions.fates[-1].fate in (CallbackFate.APPLIED, CallbackFate.LATE):
            seen.add(callback.body_sha256)
    return batch.finish()


def _ids(read_ones: Sequence[tuple[RawCallback, ShortCode, Report]]) -> dict[str, Any]:
    prompt_ids, references, own_ids, question_ids = set(), set(), set(), set()
    for _, short_code, report in read_ones:
        if isinstance(report, Payment | PromptEnd) and report.prompt_id is not None:
            prompt_ids.add(report.prompt_id)
        if isinstance(report, Payment) and report.reference is not None:
            references.add((short_code.short_code, report.reference.strip().upper()))
        if isinstance(report, End | Queued) and report.own_id is not None:
            own_ids.add(report.own_id)
        if isinstance(report, End | Balances) and report.question_id is not None:
            question_ids.add(report.question_id)
    return {"prompt_ids": prompt_ids, "references": references, "own_ids": own_ids, "question_ids": question_ids}


class _Batch:
    """The decisions about one batch of callbacks, in one transaction."""

    def __init__(self, tx: Connection, deciding: Deciding, now: datetime) -> None:
        self._tx = tx
        self._deciding = deciding
        self._now = now
        self._tariffs: list[tariffs.Tariff] | None = None
        self.decisions = Decisions()

    def finish(self) -> Decisions:
        """Store what was decided."""
        taken = take_in(self._tx, [each for each, _ in self.decisions.arrivals], self._deciding.codec, now=self._now)
        by_id = {source_id: each for each, source_id in self.decisions.arrivals}
        for index, fate in enumerate(self.decisions.fates):
            if (arrival := by_id.get(fate.id)) is not None and arrival.key in taken.different:
                self.decisions.fates[index] = Fate(
                    id=fate.id, fate=CallbackFate.REFUSED, reason="another amount than before", receipt=arrival.receipt
                )
        self.decisions.rows += taken.rows
        evidence.store(self._tx, self.decisions.evidence)
        decided = [each if each.decide_at else _at(each, self._now) for each in self.decisions.fates]
        raw_callbacks.decide(self._tx, decided)
        return self.decisions

    def refuse(self, callback: RawCallback, reason: str) -> None:
        """List a callback that decides nothing."""
        log.warning("A callback is refused and listed.", callback_id=callback.id, name=callback.name, reason=reason)
        self.done(callback, CallbackFate.REFUSED, reason)

    def done(
        self, callback: RawCallback, fate: CallbackFate, reason: str | None = None, *, saga_id: str | None = None,
        receipt: str | None = None,
    ) -> None:  # fmt: skip
        """Record what became of a callback."""
        reason = None if reason is None else readings.storable(reason)
        self.decisions.fates.append(
            Fate(id=callback.id, fate=fate, reason=reason, saga_id=saga_id, receipt=receipt, matches=callback.matches)
        )

    def orphan(self, callback: RawCallback, reason: str) -> None:
        """Let a callback be matched again: what it is about may become known."""
        self.decisions.fates.append(raw_callbacks.orphan(callback, reason, now=self._now))

    def decide(self, callback: RawCallback, short_code: ShortCode, report: Report, known: Known) -> None:
        """Decide about one callback."""
        is_queried = callback.kind in momo_bodies.QUERIED
        is_trusted = is_queried or not short_code.callbacks_from or callback.remote in short_code.callbacks_from
        match report:
            case Payment():
                self._payment(callback, short_code, report, known, is_trusted)
            case PromptEnd():
                self._prompt_end(callback, report, known, is_trusted)
            case End():
                self._end(callback, short_code, report, known, is_trusted)
            case Balances():
                self._balances(callback, short_code, report, is_trusted)
            case Queued():
                request = known.requests.get(report.own_id or "")
                self._wake(request)
                self.done(callback, CallbackFate.APPLIED, "queued: nothing is known", saga_id=_saga_id(request))

    def _payment(
        self, callback: RawCallback, short_code: ShortCode, report: Payment, known: Known, is_trusted: bool
    ) -> None:
        if report.short_code not in (None, short_code.short_code):
            self.refuse(callback, f"it is about the short code {report.short_code}")
            return
        prompt = known.prompts.get(report.prompt_id or "")
        if prompt is None and report.prompt_id is not None and callback.matches < REFERENCE_WAITED_FOR:
            self.orphan(callback, "its prompt is not known yet")
            return
        if prompt is not None and (flaw := differs(report, prompt)):
            self.refuse(callback, flaw)
            return
        is_confirmed = is_trusted and report.amount_minor < short_code.confirm_from_minor
        if prompt is None and report.reference is not None:
            prompt = known.by_reference.get((short_code.short_code, report.reference.strip().upper()))
        arrival = of_payment(
            callback, short_code, report, prompt, payer_hash=self._deciding.payer_hash(report.payer),
            is_confirmed=is_confirmed,
        )  # fmt: skip
        self.decisions.arrivals.append((arrival, callback.id))
        is_late = prompt is not None and prompt.state == AttemptState.FAILED.value
        fate = CallbackFate.LATE if is_late else CallbackFate.APPLIED
        reason = None if is_confirmed else "it waits until the provider confirms it"
        self.done(callback, fate, reason, saga_id=_saga_id(prompt), receipt=report.receipt)

    def _prompt_end(self, callback: RawCallback, report: PromptEnd, known: Known, is_trusted: bool) -> None:
        prompt = known.prompts.get(report.prompt_id)
        if prompt is None:
            self.orphan(callback, "its prompt is not known")
        elif not is_trusted:
            self.refuse(callback, "its address is none of the provider's")
        elif not prompt.is_open:
            self.done(callback, CallbackFate.LATE, f"code {report.value}", saga_id=prompt.saga_id)
        elif (outcome := report.code.meaning.outcome) is None:
            self.done(callback, CallbackFate.APPLIED, f"code {report.value} is uncertain", saga_id=prompt.saga_id)
        else:
            detail = Refused(reason=report.code.reason, code=report.value, text=report.text).detail
            self._prove(callback, prompt.key, prompt.provider, outcome, detail=detail)
            self.done(callback, CallbackFate.APPLIED, f"code {report.value}", saga_id=prompt.saga_id)

    def _end(self, callback: RawCallback, short_code: ShortCode, report: End, known: Known, is_trusted: bool) -> None:
        question = known.questions.get((short_code.short_code, report.question_id or ""))
        if question is not None and question.kind == QuestionKind.RECEIPT.value:
            self._receipt_answer(callback, short_code, report, question)
            return
        request = known.requests.get(report.own_id or "")
        if request is None and question is not None:
            request = known.requests.get(question.key or "")
        if request is None and callback.kind == daraja_bodies.REVERSAL:
            request = self._reversal_of(callback)
        if request is None:
            self.orphan(callback, "its request is not known")
            return
        if not is_trusted:
            self._wake(request)
            self.refuse(callback, "its address is none of the provider's")
            return
        if question is not None:
            questions.answer(self._tx, short_code.short_code, question.question_id, report.code.meaning, now=self._now)
        self._settle(callback, short_code, report, request)

    def _settle(self, callback: RawCallback, short_code: ShortCode, report: End, request: KnownRequest) -> None:
        """Hand on what is proven of a request, if it agrees with it."""
        outcome = report.code.meaning.outcome
        if outcome is None:
            if report.code.meaning is not Meaning.NOT_FOUND and callback.kind != daraja_bodies.STATUS:
                self._wake(request)
            self.done(callback, CallbackFate.APPLIED, f"{report.value} proves nothing", saga_id=request.saga_id)
            return
        if outcome is not Outcome.SUCCEEDED:
            detail = Refused(reason=report.code.reason, code=report.value, text=report.text).detail
            if outcome is Outcome.FAILED and request.lane is not None:
                lane = LaneId(short_code=request.short_code, name=Lane(request.lane))
                lanes.pause_for_fault(self._tx, lane, reason=report.code.reason, now=self._now)
            self._prove(callback, request.key, short_code.provider, outcome, detail=detail)
            self.done(callback, CallbackFate.APPLIED, f"code {report.value}", saga_id=request.saga_id)
            return
        is_reversal = request.step == SEND_REVERSAL
        if report.receipt is None and not is_reversal:
            self.refuse(callback, "it names no receipt")
            return
        if flaw := disagrees(report, request, short_code):
            self.refuse(callback, flaw)
            return
        if request.step == "send_prompt":
            self._prompt_paid(callback, short_code, report, request)
            return
        if report.float_minor is not None:
            at = report.completed_at or callback.received_at
            floats.tell(self._tx, short_code.short_code, at=at, utility_minor=report.float_minor)
        paid = Paid(
            receipt=report.receipt or "",
            amount_minor=request.amount_minor,
            completed_at=report.completed_at,
            charge_minor=self._charge(short_code.provider, request, report.completed_at or callback.received_at),
        )
        detail = kept_detail(self._tx, request.key, paid, is_one=is_reversal)
        self._prove(callback, request.key, short_code.provider, outcome, detail=detail, reference=report.receipt)
        late = request.state == AttemptState.FAILED.value
        self.done(callback, CallbackFate.LATE if late else CallbackFate.APPLIED, saga_id=request.saga_id,
                  receipt=report.receipt)  # fmt: skip

    def _prompt_paid(self, callback: RawCallback, short_code: ShortCode, report: End, request: KnownRequest) -> None:
        """Take in the payment of a prompt that is known by our own id of it."""
        arrival = of_prompt(
            callback, short_code, report, request, payer_hash=self._deciding.payer_hash(report.phone),
            is_queried=callback.kind == momo_bodies.STATUS_KIND,
        )  # fmt: skip
        self.decisions.arrivals.append((arrival, callback.id))
        self.done(callback, CallbackFate.APPLIED, saga_id=request.saga_id, receipt=report.receipt)

    def _receipt_answer(self, callback: RawCallback, short_code: ShortCode, report: End, question: Any) -> None:
        """Take the answer to a query about a receipt: it confirms what a callback alone had brought."""
        questions.answer(self._tx, short_code.short_code, question.question_id, report.code.meaning, now=self._now)
        is_same = report.receipt == question.receipt and report.amount_minor is not None
        if report.code.meaning is Meaning.PAID and is_same and report.amount_minor is not None:
            arrival = Arrival(
                provider=short_code.provider,
                short_code=short_code.short_code,
                receipt=question.receipt,
                currency=short_code.currency,
                amount_minor=report.amount_minor,
                completed_at=report.completed_at or callback.received_at,
                door=Door.QUERY,
                source_id=callback.id,
                received_at=callback.received_at,
            )
            self.decisions.arrivals.append((arrival, callback.id))
        self.done(callback, CallbackFate.APPLIED, f"{report.value} of a receipt", receipt=question.receipt)

    def _balances(self, callback: RawCallback, short_code: ShortCode, report: Balances, is_trusted: bool) -> None:
        if not is_trusted:
            self.refuse(callback, "its address is none of the provider's")
            return
        floats.tell(
            self._tx,
            short_code.short_code,
            at=report.at or callback.received_at,
            utility_minor=report.utility_minor,
            working_minor=report.working_minor,
            charges_minor=report.charges_minor,
        )
        self.done(callback, CallbackFate.APPLIED, "balances")

    def _reversal_of(self, callback: RawCallback) -> KnownRequest | None:
        result = json.loads(callback.body).get("Result", {})
        conversation = result.get("ConversationID") if isinstance(result, dict) else None
        return reversal_by_id(self._tx, f"{daraja_bodies.PROVIDER}:{conversation}") if conversation else None

    def _prove(
        self, callback: RawCallback, key: str, provider: str, outcome: Outcome, *, detail: str,
        reference: str | None = None,
    ) -> None:  # fmt: skip
        source = Source.QUERY if callback.kind == daraja_bodies.STATUS else Source.CALLBACK
        self.decisions.evidence.append(
            Received(
                id=derived_id("callback", key, callback.body_sha256),
                provider=provider,
                source=source,
                received_at=callback.received_at,
                headers=(),
                body=callback.body,
                claim=Claim(outcome=outcome, key=key, reference=reference, detail=detail),
            )
        )

    def _wake(self, request: KnownRequest | None) -> None:
        """Let the ladder of a request go on now."""
        if request is not None:
            attempt_rows.wake(self._tx, request.step, [request.saga_id], now=self._now)

    def _charge(self, provider: str, request: KnownRequest, at: datetime) -> int:
        if request.step != lanes.SEND_PAYOUT:
            return 0
        if self._tariffs is None:
            self._tariffs = tariffs.read(self._tx)
        return tariffs.charge_minor(self._tariffs, provider, request.amount_minor, at)


def _saga_id(found: KnownPrompt | KnownRequest | None) -> str | None:
    return None if found is None else found.saga_id


def _at(fate: Fate, now: datetime) -> Fate:
    return Fate(
        id=fate.id, fate=fate.fate, reason=fate.reason, saga_id=fate.saga_id, receipt=fate.receipt,
        matches=fate.matches, decided_at=now,
    )  # fmt: skip
