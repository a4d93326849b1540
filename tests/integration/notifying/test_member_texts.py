"""What members are sent by text: stored with their saga, sent, and shown to staff."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from chassis.http.auth import Verifier
from chassis.process.published import published_of
from chassis.process.reconcile import Replay
from chassis.process.service import Dependencies, api
from chassis.settings import Settings
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.ledger import (
    AssignedReceiptAllocated,
    PayoutCommitted,
    ReceiptAllocated,
    RepaymentPosted,
    ReturnCommitted,
)
from messages.members import DividendPayoutReleased, LoanApproved, MemberRegistered, WithdrawalRequested
from messages.notifier import MemberNotified
from messages.saga import DividendPayoutFailed, LoanDisbursementFailed, WithdrawalFailed
from notifier import text_api
from notifier.model.member_texts import Notice, TextKind, waiting
from notifier.model.text_schedule import ATTEMPTS_MAX, PAUSES
from notifier.store import texts
from notifier.store.texts import Registered
from notifier.tasks import TEXTS_KEPT, delete_old
from notifier.texter import NotSent, Recorder, Texter
from notifier.texting import TextSender
from support.builders import a
from support.issuer import token, verifying
from support.notifiers import CODEC, NotifierUnderTest
from support.waiting import until

MEMBER, PHONE = "00123", "254712345678"
ALLOCATED = [
    {"kind": "INTEREST", "owner": "LN1", "allocated_minor": 5_000},
    {"kind": "PRINCIPAL", "owner": "LN1", "allocated_minor": 45_000},
]
MONEY = {"member_id": MEMBER, "currency": "KES", "amount_minor": 50_000}

REGISTERED = Registered(member_id=MEMBER, phone=PHONE, language="en", registered_at=datetime(2026, 1, 1, tzinfo=UTC))
NOTICE = Notice(
    saga_id=new_id(),
    member_id=MEMBER,
    kind=TextKind.DIVIDEND_PAID,
    fields={"receipt": "SBC2", "amount": "KES 500.00"},
)
BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@dataclass(slots=True)
class Unwilling:
    """A provider of texts that refuses the first ones."""

    failures: int
    keys: list[str] = field(default_factory=list)

    def send(self, phone: str, body: str, key: str) -> None:
        self.keys.append(key)
        if self.failures > 0:
            self.failures -= 1
            raise NotSent("The provider answered 503.")


def register(notifier: NotifierUnderTest, language: str = "en", **more: Any) -> None:
    service = notifier.service()
    fields = {"saga_id": service.saga_id, "saga_type": "member_onboarding", "member_id": MEMBER, "phone": PHONE}
    service.deliver(a(MemberRegistered, **{**fields, "language": language, **more}))


def deliver(notifier: NotifierUnderTest, message_type: type[Message], saga: str, **fields: Any) -> Any:
    """Deliver an event of a saga of its own, and return what is published."""
    service = notifier.service()
    (answer,) = service.deliver(a(message_type, saga_id=service.saga_id, saga_type=saga, **{**MONEY, **fields}))
    return answer


def bodies(notifier: NotifierUnderTest) -> list[str]:
    return [row.body for row in notifier.rows("SELECT body FROM texts ORDER BY position")]


def waiting_count(notifier: NotifierUnderTest) -> int:
    """Return how many texts wait for a registration: one in each language for each notice."""
    (row,) = notifier.rows("SELECT count(*) AS number FROM waiting_texts")
    return int(row.number)


def send(notifier: NotifierUnderTest, texter: Texter) -> int:
    """Send what is due, by the test's clock."""
    with notifier.engine.begin() as tx:
        # The database's own clock is ahead of a test's that stands still.
        tx.execute(text("UPDATE texts SET due_at = :now WHERE attempt_count = 0"), {"now": notifier.clock()})
    return TextSender(notifier.engine, texter, clock=notifier.clock).run_once()


CASES: list[tuple[type[Message], str, dict[str, Any], str]] = [
    (
        ReceiptAllocated,
        "receipt",
        {"receipt": "SAB1", "state": "ALLOCATED", "allocations": ALLOCATED, "loan_balance_minor": 100_000},
        "SAB1 confirmed. We received KES 500.00: interest KES 50.00, loan KES 450.00. Loan balance KES 1,000.00.",
    ),
    (
        ReceiptAllocated,
        "receipt",
        {"receipt": "SAB1", "state": "SUSPENSE", "reason": "account_blocked", "allocations": []},
        "SAB1: we received KES 500.00 and are finding out which account it is for. It is safe with us.",
    ),
    (
        AssignedReceiptAllocated,
        "suspense_allocation",
        {"receipt": "SAB1", "allocations": [{"kind": "SAVINGS", "owner": MEMBER, "allocated_minor": 50_000}]},
        "SAB1 confirmed. We received KES 500.00: savings KES 500.00.",
    ),
    (
        ReturnCommitted,
        "return_receipt",
        {"receipt": "SAB1"},
        "SAB1: KES 500.00 was sent back to the phone that paid it.",
    ),
    (
        PayoutCommitted,
        "withdrawal",
        {"receipt": "SBC2", "source": "SAVINGS", "fee_minor": 3_000, "excise_minor": 450},
        "SBC2 confirmed. KES 500.00 was sent to your phone. Fee with duty: KES 34.50.",
    ),
    (
        PayoutCommitted,
        "loan_disbursement",
        {"receipt": "SBC2", "source": "LOAN", "loan_id": "LN1"},
        "SBC2 confirmed. KES 500.00 of your loan LN1 was sent to your phone.",
    ),
    (
        PayoutCommitted,
        "dividend_payout",
        {"receipt": "SBC2", "source": "DIVIDEND"},
        "SBC2 confirmed. Your dividend of KES 500.00 was sent to your phone.",
    ),
    (
        RepaymentPosted,
        "loan_repayment",
        {"loan_id": "LN1", "allocations": ALLOCATED, "loan_balance_minor": 0},
        "Loan LN1: KES 500.00 was repaid from your savings: interest KES 50.00, loan KES 450.00."
        " Loan balance KES 0.00.",
    ),
]


@pytest.mark.parametrize(("message_type", "saga", "fields", "body"), CASES, ids=[f"{case[1]}" for case in CASES])
def test_a_member_is_sent_what_became_of_the_money(
    notifier: NotifierUnderTest, message_type: type[Message], saga: str, fields: dict[str, Any], body: str
) -> None:
    register(notifier)
    answer = deliver(notifier, message_type, saga, **fields)
    assert isinstance(answer, MemberNotified)
    assert (answer.member_id, answer.texts) == (MEMBER, 1)
    assert bodies(notifier) == [body]


def test_a_member_reads_it_in_the_language_that_was_registered_last(notifier: NotifierUnderTest) -> None:
    old = notifier.clock() - timedelta(days=1)
    register(notifier, "sw", phone="254110000111")
    register(notifier, "en", occurred_at=old)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    assert bodies(notifier) == [
        "SBC2 imethibitishwa. Gawio lako la KES 500.00 limetumwa kwa simu yako.",
    ]
    assert [row.phone for row in notifier.rows("SELECT phone FROM texts")] == ["254110000111"]


def test_no_member_is_notified_of_a_receipt_of_an_unknown_payer(notifier: NotifierUnderTest) -> None:
    waiting = {"receipt": "SAB1", "state": "SUSPENSE", "reason": "unknown_reference", "allocations": []}
    unknown = deliver(notifier, ReceiptAllocated, "receipt", **waiting, member_id=None)
    assert (unknown.member_id, unknown.texts) == (None, 0)
    assert waiting_count(notifier) == 0
    assert bodies(notifier) == []


def test_a_text_waits_for_the_registration_and_is_sent_in_the_language_that_it_names(
    notifier: NotifierUnderTest,
) -> None:
    paid = deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    assert (paid.member_id, paid.texts) == (MEMBER, 1)
    assert (bodies(notifier), waiting_count(notifier)) == ([], 2)
    register(notifier, "sw", phone="254110000111")
    assert bodies(notifier) == ["SBC2 imethibitishwa. Gawio lako la KES 500.00 limetumwa kwa simu yako."]
    assert [row.phone for row in notifier.rows("SELECT phone FROM texts")] == ["254110000111"]
    assert waiting_count(notifier) == 0


@pytest.mark.parametrize("is_registration_first", [True, False])
def test_a_text_and_a_registration_at_the_same_time_find_each_other(
    notifier: NotifierUnderTest, *, is_registration_first: bool
) -> None:
    """Neither sees what the other has not committed, so the second one must wait for the first."""

    def save_text(tx: Connection) -> None:
        texts.save_waiting(waiting(NOTICE), tx)

    def save_contact(tx: Connection) -> None:
        texts.save_contacts([REGISTERED], tx)

    first, second = (save_contact, save_text) if is_registration_first else (save_text, save_contact)

    def later() -> None:
        with notifier.engine.begin() as tx:
            second(tx)

    with ThreadPoolExecutor(1) as pool:
        with notifier.engine.begin() as tx:
            first(tx)
            tx.execute(text("SELECT 1"))  # what is sent before a commit waits for an answer only here
            result = pool.submit(later)
            until(lambda: notifier.rows(BLOCKED), "the second to wait for the first")
        result.result(timeout=10)
    assert (len(bodies(notifier)), waiting_count(notifier)) == (1, 0)


def test_a_redelivered_event_stores_no_second_text(notifier: NotifierUnderTest) -> None:
    register(notifier)
    service = notifier.service()
    fields = {**MONEY, "saga_id": service.saga_id, "saga_type": "dividend_payout", "source": "DIVIDEND"}
    event = a(PayoutCommitted, **fields)
    service.deliver(event)
    assert service.deliver(event) == []
    assert len(bodies(notifier)) == 1


FAILING: dict[str, tuple[type[Message], type[Message], dict[str, Any], str]] = {
    "withdrawal": (
        WithdrawalRequested, WithdrawalFailed, {},
        "Your withdrawal of KES 500.00 was not paid. What was held for it is in your savings.",
    ),
    "loan_disbursement": (
        LoanApproved, LoanDisbursementFailed, {"loan_id": "LN1"},
        "KES 500.00 of your loan LN1 was not paid out. We look into it and will contact you.",
    ),
    "dividend_payout": (
        DividendPayoutReleased, DividendPayoutFailed, {},
        "Your dividend of KES 500.00 was not paid to your phone. It goes to your savings.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("saga", FAILING)
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1, 1), (1, 1, 0, 0, 1)])
def test_a_payout_that_failed_is_told_once_in_whichever_order_its_events_come(
    notifier: NotifierUnderTest, saga: str, order: tuple[int, ...]
) -> None:
    register(notifier)
    beginning, end, fields, body = FAILING[saga]
    service = notifier.service()
    own = {"saga_id": service.saga_id, "saga_type": saga}
    messages = (a(beginning, **own, **MONEY, **fields), a(end, **own, cause="REJECTED", step="send_payout"))
    for number in order:
        assert service.deliver(messages[number]) == []
    assert bodies(notifier) == [body]


def test_a_withdrawal_that_the_member_cancelled_is_said_to_be_cancelled(notifier: NotifierUnderTest) -> None:
    register(notifier)
    service = notifier.service()
    own = {"saga_id": service.saga_id, "saga_type": "withdrawal"}
    service.deliver(a(WithdrawalRequested, **own, **MONEY))
    assert bodies(notifier) == [], "while it is under way nothing is said"
    service.deliver(a(WithdrawalFailed, **own, cause="CANCELLED", step="place_hold"))
    assert bodies(notifier) == [
        "Your withdrawal of KES 500.00 is cancelled. What was held for it is in your savings.",
    ]


def test_a_text_is_sent_once_and_its_row_shows_it(notifier: NotifierUnderTest) -> None:
    register(notifier)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    recorder = Recorder()
    assert (send(notifier, recorder), send(notifier, recorder)) == (1, 0)
    (row,) = notifier.rows("SELECT text_id, state, attempt_count, lease, ended_at FROM texts")
    assert [(each.phone, each.key) for each in recorder.sent] == [(PHONE, row.text_id)]
    assert (row.state, row.attempt_count, row.lease, row.ended_at) == ("SENT", 1, None, notifier.clock())


def test_a_text_that_is_not_taken_is_sent_again_later_under_its_key(notifier: NotifierUnderTest) -> None:
    register(notifier)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    unwilling = Unwilling(failures=1)
    assert (send(notifier, unwilling), send(notifier, unwilling)) == (1, 0)
    notifier.clock.move(seconds=PAUSES[0].total_seconds())
    assert send(notifier, unwilling) == 1
    assert len(unwilling.keys) == 2
    assert len(set(unwilling.keys)) == 1
    ((state, count),) = notifier.rows("SELECT state, attempt_count FROM texts")
    assert (state, count) == ("SENT", 2)


def test_a_text_is_given_up_after_five_attempts(notifier: NotifierUnderTest) -> None:
    register(notifier)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    unwilling = Unwilling(failures=100)
    for _ in range(ATTEMPTS_MAX + 3):
        send(notifier, unwilling)
        notifier.clock.move(hours=2)
    ((state, count, error),) = notifier.rows("SELECT state, attempt_count, last_error FROM texts")
    assert (state, count, error) == ("GIVEN_UP", 5, "The provider answered 503.")
    assert len(unwilling.keys) == ATTEMPTS_MAX == 5


def test_what_a_killed_process_had_leased_another_one_sends_after_its_lease(notifier: NotifierUnderTest) -> None:
    register(notifier)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    with notifier.engine.begin() as tx:
        tx.execute(text("UPDATE texts SET due_at = :now"), {"now": notifier.clock()})
        (leased,) = texts.lease_due(10, "another", tx, now=notifier.clock())
    recorder = Recorder()
    sender = TextSender(notifier.engine, recorder, clock=notifier.clock)
    assert sender.run_once() == 0
    notifier.clock.move(seconds=texts.LEASE.total_seconds())
    assert sender.run_once() == 1
    assert [each.key for each in recorder.sent] == [leased.text_id]
    late = texts.SettledText(text_id=leased.text_id, state="DUE", attempts=1, due_at=notifier.clock(), error="late")
    with notifier.engine.begin() as tx:
        texts.settle([late], "another", tx, now=notifier.clock())
    assert [row.state for row in notifier.rows("SELECT state FROM texts")] == ["SENT"]


def test_no_log_has_a_phone_or_a_text(notifier: NotifierUnderTest) -> None:
    register(notifier)
    deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    with capture_logs() as logs:
        send(notifier, Unwilling(failures=1))
    assert [each["event"] for each in logs] == ["A text was not sent."]
    assert PHONE not in str(logs)
    assert "dividend" not in str(logs)


def test_old_texts_are_deleted_and_none_that_is_due(notifier: NotifierUnderTest) -> None:
    register(notifier)
    for _ in range(2):
        deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    with notifier.engine.begin() as tx:
        tx.execute(text("UPDATE texts SET state = 'SENT' WHERE position = (SELECT min(position) FROM texts)"))
        assert not delete_old(tx, now=notifier.clock() + TEXTS_KEPT + timedelta(days=1))
    assert [row.state for row in notifier.rows("SELECT state FROM texts")] == ["DUE"]


def test_a_restored_database_has_the_text_again_and_the_published_answer(notifier: NotifierUnderTest) -> None:
    register(notifier)
    service = notifier.service()
    own = {**MONEY, "saga_id": service.saga_id, "saga_type": "dividend_payout", "source": "DIVIDEND"}
    (answer,) = service.deliver(a(PayoutCommitted, **own))
    with notifier.engine.begin() as tx:
        tx.execute(text("TRUNCATE texts, effects, outbox CASCADE"))
    read = published_of(service.handlers, [(0, answer)], service.read)
    done = Replay("notifier", service.handlers, notifier.engine, CODEC, read).run()
    assert (done.repeated, list(done.open)) == (1, [])
    assert len(bodies(notifier)) == 1
    assert notifier.rows("SELECT type FROM outbox WHERE aggregateid = :id", id=service.saga_id) == []


class Staff:
    """The texts' API, as staff see it."""

    def __init__(self, notifier: NotifierUnderTest, verifier: Verifier) -> None:
        settings = Settings(
            service="notifier", kafka="", registry_url="", database_url="", database_password_file=Path("none")
        )
        dependencies = Dependencies(settings=settings, engine=notifier.engine, codec=CODEC, verifier=verifier)
        self._app: FastAPI = api("Notifier", dependencies, text_api.routes(notifier.engine))

    def get(self, query: str = "", *, roles: tuple[str, ...] = ("support",)) -> Any:
        headers = {"Authorization": f"Bearer {token('ann', *roles)}"}
        return TestClient(self._app, headers=headers).get(f"/v1/texts{query}")


@pytest.fixture
def staff(notifier: NotifierUnderTest) -> Iterator[Staff]:
    with verifying() as verifier:
        yield Staff(notifier, verifier)


def test_staff_read_texts_page_by_page_and_no_whole_phone(notifier: NotifierUnderTest, staff: Staff) -> None:
    register(notifier)
    for number in range(3):
        deliver(notifier, PayoutCommitted, "dividend_payout", receipt=f"SBC{number}", source="DIVIDEND")
    first = staff.get(f"?member_id={MEMBER}&limit=2").json()
    assert [each["body"][:4] for each in first["texts"]] == ["SBC2", "SBC1"]
    assert {each["phone"] for each in first["texts"]} == {"254******678"}
    second = staff.get(f"?member_id={MEMBER}&limit=2&cursor={first['next_cursor']}").json()
    assert [each["body"][:4] for each in second["texts"]] == ["SBC0"]
    assert second["next_cursor"] is None
    assert PHONE not in str(first)


def test_staff_find_texts_by_their_state_and_saga(notifier: NotifierUnderTest, staff: Staff) -> None:
    register(notifier)
    answer = deliver(notifier, PayoutCommitted, "dividend_payout", receipt="SBC2", source="DIVIDEND")
    assert [each["saga_id"] for each in staff.get("?state=DUE").json()["texts"]] == [answer.saga_id]
    assert staff.get("?state=SENT").json()["texts"] == []
    assert len(staff.get(f"?saga_id={answer.saga_id}").json()["texts"]) == 1
    assert staff.get("?state=ODD").status_code == 422


@pytest.mark.parametrize("role", ["teller", "support", "operator"])
def test_staff_of_these_roles_read_texts(staff: Staff, role: str) -> None:
    assert staff.get(roles=(role,)).status_code == 200


@pytest.mark.parametrize("roles", [("member",), ("merchant", "live"), ("finance",), ("customer",)], ids="-".join)
def test_nobody_else_reads_texts(staff: Staff, roles: tuple[str, ...]) -> None:
    assert staff.get(roles=roles).status_code == 403
