"""The benchmark of a SACCO: what it follows, what it sends, and the provider inside of the process."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from baraza.bench import members, sacco
from baraza.bench.follower import SaccoFollower
from baraza.bench.members import IN_DOUBT, SAVERS, SHAREHOLDERS, UNPAID, Payers
from bench_providers.mobile_money.provider import (
    FLOAT_MINOR,
    Books,
    PayoutCharges,
    ProviderInProcess,
    balance_body,
    receipt_of,
)
from chassis.http.downstream import NotTried, Unavailable
from chassis.saga.answers import Accepted, NotFound, Proven
from chassis.saga.attempts import Outcome
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.saga import (
    DividendPayoutCompleted,
    OrderConfirmed,
    ReceiptCompleted,
    ReceiptFailed,
    WithdrawalCompleted,
    WithdrawalFailed,
)
from mobile_money import daraja_bodies, readings
from mobile_money.limiter import Limiter
from mobile_money.port import Paid, Payout, Prompt, Refused
from mobile_money.receipts import saga_id_of
from mobile_money.reports import Balances, Payment
from mobile_money.short_codes import ShortCode
from mobile_money.tariffs import Tariff
from proof.schemas import LocalRegistry
from support.builders import a

AT = datetime(2026, 11, 30, 9, 0, 1, 500_000, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """A message as the consumer returns it."""

    saga_id: str
    payload: bytes

    def key(self) -> bytes:
        return self.saga_id.encode()

    def value(self) -> bytes:
        return self.payload


class Offline(SaccoFollower):
    """A follower without Kafka."""

    def _assigned(self, _kafka: object) -> None:  # type: ignore[override]
        self._codec = Codec(LocalRegistry())


def read_by(messages: Sequence[Message]) -> SaccoFollower:
    found = Offline(None, "http://registry.invalid")  # type: ignore[arg-type]
    for each in messages:
        found._record([Record(each.saga_id, Codec(LocalRegistry()).encode("saga.events", each))])  # type: ignore[list-item]
    return found


def test_withdrawals_and_receipts_are_followed_by_their_sagas_and_dividends_are_counted_beside() -> None:
    withdrawal, receipt, refused = new_id(), new_id(), new_id()
    follower = read_by([
        a(WithdrawalCompleted, saga_id=withdrawal), a(DividendPayoutCompleted, saga_id=new_id()),
        a(ReceiptCompleted, saga_id=receipt), a(OrderConfirmed, saga_id=new_id()),
        a(WithdrawalFailed, saga_id=refused), a(ReceiptFailed, saga_id=new_id()),
    ])  # fmt: skip
    assert (follower.confirmed, follower.cancelled, follower.dividends()) == (2, 2, 1)
    follower.accepted([(withdrawal, 1.0), (receipt, 2.0), (refused, 3.0), ("open", 4.0)])
    assert {each.order_id for each in follower.ended(0.0, 9.0)} == {withdrawal, receipt, refused}
    assert follower.still_open(9) == ["open"]
    (at_s,) = follower._dividends_at_s
    assert (follower.dividends(at_s, at_s + 1), follower.dividends(at_s + 1)) == (1, 0)


def test_a_confirmation_is_read_by_mobile_money_and_written_into_the_books_as_it_was_sent() -> None:
    payers, own = Payers(), members.members(SAVERS, 3)
    orders = list(islice(payers.payments(own), 7))
    assert len({each.key for each in orders}) == 7
    payers.sent += orders
    for number, (order, entry) in enumerate(zip(orders, payers.entries(), strict=True)):
        read = daraja_bodies.read(daraja_bodies.CONFIRMATION, json.loads(order.body))
        assert isinstance(read, Payment)
        assert entry == ("daraja", "600100", read.receipt, "pay_in", read.amount_minor, read.completed_at)
        assert read.reference == f"SAV{own[number % 3].member_id}"
        assert read.amount_minor == members.PAID_IN[number % len(members.PAID_IN)] * 100
        hashed = readings.payer_hash(b"key", read.payer)
        assert hashed == readings.payer_hash(b"key", own[number % 3].phone)
        assert members.saga_of(order.key) == saga_id_of("daraja", "600100", read.receipt, 1)


def test_no_receipt_of_the_benchmark_waits_for_a_confirmation() -> None:
    assert max(members.SAVED, *members.PAID_IN) * 100 < code_of().confirm_from_minor


def test_members_have_numbers_and_phones_of_their_own_and_kind() -> None:
    found = [each for kind in (SAVERS, SHAREHOLDERS, UNPAID, IN_DOUBT) for each in members.members(kind, 500)]
    assert len({each.member_id for each in found}) == len({each.phone for each in found}) == len(found)
    for each in found:
        assert readings.phone_of(each.phone) == each.phone


def test_a_member_takes_out_another_amount_each_time_until_the_amounts_are_used_up() -> None:
    own = members.members(SAVERS, 5)
    orders = list(islice(members.withdrawals(own), 5 * members.AMOUNTS))
    assert len({each.key for each in orders}) == len({each.body for each in orders}) == len(orders)
    bodies = [json.loads(each.body) for each in orders]
    assert all(each["amount_minor"] % 100 == 0 and each["amount_minor"] >= 1_000 for each in bodies)


def test_one_of_so_many_withdrawals_is_a_refused_one() -> None:
    usual, rare = (members.withdrawals(members.members(kind, 9)) for kind in (SAVERS, UNPAID))
    kinds = [json.loads(each.body)["member_id"][0] for each in islice(members.mixed(usual, rare, every=10), 100)]
    assert kinds == [*(["M"] * 9), "X"] * 10


def test_the_limits_that_are_raised_are_those_of_a_teller_and_of_a_short_code() -> None:
    assert sacco.ENVIRONMENT == {
        "members": {"BARAZA_REQUESTS_PER_S_TELLER": "100000"},
        "*": {"BARAZA_MOBILE_MONEY_CALLS_PER_S": "100000"},
    }
    assert sacco.LIMITED["*"] == {"BARAZA_MOBILE_MONEY_CALLS_PER_S": "40"}


class Charges(PayoutCharges):
    """A tariff without a database."""

    def __init__(self) -> None:
        super().__init__(create_engine("postgresql+psycopg://127.0.0.1:1/x"))
        self._known = [Tariff("daraja", "PAYOUT", AT.date(), 150_000, 500)]


@dataclass
class Kept:
    """What was kept of a provider's answers."""

    bodies: list[tuple[str, str, bytes]] = field(default_factory=list)

    def __call__(self, name: str, kind: str, body: bytes) -> None:
        self.bodies.append((name, kind, body))


@pytest.fixture
def code() -> ShortCode:
    return code_of()


def code_of() -> ShortCode:
    """Return a short code at Daraja whose files no test reads."""
    file = Path("/none")
    return ShortCode(
        name="daraja-600100", provider="daraja", short_code="600100", currency="KES", url="http://127.0.0.1:1",
        callback_url="http://127.0.0.1:1", callback_secret_file=file, key_file=file, secret_file=file,
        passkey_file=file, initiator="baraza", initiator_password_file=file, certificate="/none",
    )  # fmt: skip


def provider_of(code: ShortCode, books: Books, *, calls_per_s: float = 100_000.0) -> ProviderInProcess:
    return ProviderInProcess(
        code=code, books=books, limiter=Limiter("test", calls_per_s, 0.3), charges=Charges(), keep=Kept(),
        clock=lambda: AT,
    )  # fmt: skip


def payout(code: ShortCode, *, phone: str = "254712345678", lane: str = "MEMBERS") -> Payout:
    return Payout(short_code=code.short_code, phone=phone, amount_minor=2_500, currency="KES", lane=lane)


def test_a_provider_inside_of_the_process_pays_once_for_a_key(code: ShortCode) -> None:
    books = Books()
    provider = provider_of(code, books)
    request = payout(code)
    assert provider.query(request, "s:send_payout", None) == NotFound()
    first = provider.send(request, "s:send_payout")
    assert isinstance(first, Proven)
    assert first.outcome is Outcome.SUCCEEDED
    paid = Paid.of(first.detail)
    assert paid == Paid(
        receipt=receipt_of("s:send_payout"), amount_minor=2_500, completed_at=AT.replace(microsecond=0),
        charge_minor=500,
    )  # fmt: skip
    assert provider.send(request, "s:send_payout") is first
    assert provider.query(request, "s:send_payout", None) is first
    (entry,) = books._unwritten
    assert (entry.kind, entry.amount_minor, entry.own_id) == ("pay_out", -2_500, provider.own_id("s:send_payout"))
    assert books.utility_minor(code.short_code) == FLOAT_MINOR - 2_500
    assert readings.receipt_of(entry.receipt) == entry.receipt


def test_a_provider_inside_of_the_process_refuses_phones_that_it_does_not_know(code: ShortCode) -> None:
    books = Books()
    (member,) = members.members(UNPAID, 1)
    answer = provider_of(code, books).send(payout(code, phone=member.phone), "s:send_payout")
    assert isinstance(answer, Proven)
    assert answer.outcome is Outcome.REFUSED
    assert Refused.of(answer.detail, answer.outcome).reason == "not_registered"
    assert [(each.kind, each.amount_minor, each.at) for each in books._unwritten] == [("refusal", 0, AT)]
    assert books.utility_minor(code.short_code) == FLOAT_MINOR


def test_a_provider_inside_of_the_process_keeps_to_the_limit_in_both_lanes(code: ShortCode) -> None:
    books = Books()
    provider = provider_of(code, books, calls_per_s=0.1)
    provider.send(payout(code, lane="BULK"), "first")
    for lane in ("BULK", "MEMBERS"):
        with pytest.raises(NotTried):
            provider.send(payout(code, lane=lane), lane)
    assert len(books._unwritten) == 1


def test_a_provider_inside_of_the_process_takes_questions_about_silent_phones_and_proves_nothing(
    code: ShortCode,
) -> None:
    books = Books()
    provider = provider_of(code, books)
    (member,) = members.members(IN_DOUBT, 1)
    request = payout(code, phone=member.phone)
    own_id = provider.own_id("s:send_payout")
    assert provider.send(request, "s:send_payout") == Accepted(provider_id=f"daraja:{own_id}", reference=own_id)
    for _ in range(2):
        with pytest.raises(Unavailable):
            provider.query(request, "s:send_payout", f"daraja:{own_id}")
    assert [(each.kind, each.amount_minor) for each in books._unwritten] == [("question", 0)] * 2
    assert books.utility_minor(code.short_code) == FLOAT_MINOR


def test_a_provider_inside_of_the_process_prompts_no_phone(code: ShortCode) -> None:
    prompt = Prompt(
        short_code=code.short_code, phone="254712345678", amount_minor=100, currency="KES", reference="C1"
    )  # fmt: skip
    with pytest.raises(Unavailable) as caught:
        provider_of(code, Books()).send(prompt, "s:send_prompt")
    assert caught.value.certain_no_effect


@pytest.mark.parametrize("seed", range(4))
def test_the_balance_of_a_provider_inside_of_the_process_is_read_as_darajas(code: ShortCode, seed: int) -> None:
    print(f"seed {seed}")
    left_minor = random.Random(seed).randrange(1, FLOAT_MINOR // 100) * 100
    read = daraja_bodies.read(daraja_bodies.BALANCE, json.loads(balance_body(left_minor, AT)))
    assert isinstance(read, Balances)
    assert (read.utility_minor, read.working_minor, read.at) == (left_minor, 0, AT.replace(microsecond=0))
    provider = provider_of(code, Books())
    provider.query_balance()
    assert isinstance(provider.keep, Kept)
    assert [(name, kind) for name, kind, _ in provider.keep.bodies] == [(code.name, "balance")]
