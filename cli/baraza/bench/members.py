"""Members of a benchmark, what they pay in and take out, and the connections that this enters by."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from baraza.bench.load import RETRY_S, RETRYABLE, TIMEOUT_S, exchange
from baraza.bench.orders import Order
from baraza.bench.owner import owner_connection
from baraza.storefront.sacco import registering
from baraza.storefront.sacco.people import PROVIDER, SHORT_CODE, People
from baraza.system.client import Tokens
from baraza.system.running import Running
from baraza.terminal import Refusal
from bench_providers.mobile_money.provider import SILENT, UNREGISTERED
from bench_providers.mobile_money.tables import PAY_IN
from chassis.wire.envelope import derived_id, new_id
from stack.home import Home
from stack.short_codes import CALLBACK, CALLBACK_PATH, SHORT_CODES

SAVED, SHARES_MINOR, DEPOSITS_MINOR = 9_000, 40_000_00, 60_000_00
"""What a member pays in first, in shillings: below what a callback alone may credit. What a shareholder has before."""
PAID_IN: Final = (2_000, 3_000, 5_000, 8_000)
TAKEN_OUT_MIN, AMOUNTS = 20, 200
"""A member takes out so many different amounts, one after the other: an equal one under way would be refused."""
SAVERS, SHAREHOLDERS, UNPAID, IN_DOUBT = "M", "D", "X", "Q"
"""The kinds of members, as their numbers begin: who saves, who gets dividends, whom the provider refuses to pay, and of
whose payouts it says nothing."""
PREFIXES: Final = {SAVERS: "25470", SHAREHOLDERS: "25471", UNPAID: UNREGISTERED, IN_DOUBT: SILENT}
"""How the phones of each kind begin."""
PHONES: Final = 10**7
MEMBER_RUNS: Final = 10**7
NAIROBI: Final = timedelta(hours=3)
MONEY: Final = "mobile-money"
COPY: Final = "COPY money_entries (provider, short_code, receipt, kind, amount_minor, at) FROM STDIN"


class Member(NamedTuple):
    """One member: the number, and the phone."""

    member_id: str
    phone: str


def members(kind: str, how_many: int) -> list[Member]:
    """Return new members of a kind."""
    run = time.time_ns() // 1_000_000 % MEMBER_RUNS
    return [
        Member(f"{kind}{run:07}{number:05}", f"{PREFIXES[kind]}{(run * 7_919 + number) % PHONES:07}")
        for number in range(how_many)
    ]


def register(staff: People, new: Sequence[Member]) -> None:
    """Register members, and wait until their accounts are open. Dividends of shareholders go to their phones."""
    opening = {"opening_shares_minor": SHARES_MINOR, "opening_deposits_minor": DEPOSITS_MINOR}
    bodies: list[Mapping[str, Any]] = [
        {
            "member_id": each.member_id,
            "name": "A member",
            "phone": each.phone,
            **({"destination": "MOBILE", **opening} if each.member_id.startswith(SHAREHOLDERS) else {}),
        }
        for each in new
    ]
    registering.register(staff, bodies, lambda _: None)


class Payers:
    """Whose payments are confirmed by callbacks, each payment with a receipt of its own."""

    def __init__(self) -> None:
        self._receipts = count()
        self.sent: list[Order] = []
        """Every payment whose callback was sent. The provider has taken them all."""

    def payments(self, payers: Sequence[Member], amounts: Sequence[int] = PAID_IN) -> Iterator[Order]:
        """Yield payments to savings of these members in turn, amounts in shillings."""
        hashed = [hashlib.sha256(each.phone.encode()).hexdigest() for each in payers]
        for number in count():
            index = number % len(payers)
            receipt = f"B{next(self._receipts):09}"
            amount = amounts[number % len(amounts)]
            yield Order(receipt, confirmation(receipt, amount, payers[index].member_id, hashed[index]))

    def entries(self) -> Iterator[tuple[str, str, str, str, int, datetime]]:
        """Yield what the provider has taken, as its books have it."""
        for each in self.sent:
            body = json.loads(each.body)
            at = datetime.strptime(body["TransTime"], "%Y%m%d%H%M%S").replace(tzinfo=UTC) - NAIROBI
            amount_minor = int(body["TransAmount"].removesuffix(".00")) * 100
            yield PROVIDER, SHORT_CODE, str(body["TransID"]), PAY_IN, amount_minor, at

    def write_books(self, stack: Running) -> None:
        """Write what was paid in into the provider's books, which the audit compares with ours."""
        with owner_connection(stack, MONEY) as connection, connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for entry in self.entries():
                copy.write_row(entry)


def confirmation(receipt: str, amount: int, member_id: str, payer: str) -> str:
    """Return a confirmation as Daraja posts it; its time is that of Nairobi."""
    at = (datetime.now(UTC) + NAIROBI).strftime("%Y%m%d%H%M%S")
    return (
        f'{{"TransactionType":"Pay Bill","TransID":"{receipt}","TransTime":"{at}","TransAmount":"{amount}.00",'
        f'"BusinessShortCode":"{SHORT_CODE}","BillRefNumber":"SAV{member_id}","InvoiceNumber":"",'
        f'"OrgAccountBalance":"","ThirdPartyTransID":"","MSISDN":"{payer}","FirstName":"A"}}'
    )


def withdrawals(of: Sequence[Member]) -> Iterator[Order]:
    """Yield withdrawals of these members in turn, each with a key of its own."""
    run = new_id().lower()
    for number in count():
        round_of_members, index = divmod(number, len(of))
        amount_minor = (TAKEN_OUT_MIN + round_of_members % AMOUNTS) * 100
        yield Order(f"{run}-{number}", f'{{"member_id":"{of[index].member_id}","amount_minor":{amount_minor}}}')


def mixed(usual: Iterator[Order], rare: Iterator[Order], *, every: int) -> Iterator[Order]:
    """Yield the usual ones, and one of the rare ones for each ``every``."""
    for number in count(1):
        yield next(usual if number % every else rare)


class _Client:
    """One connection to a service, for one thread at a time. It appends each status to ``statuses``."""

    def __init__(self, url: str, statuses: list[int]) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._statuses = statuses

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _posted(self, path: str, order: Order, headers: dict[str, str]) -> bytes:
        """Post a body until the service takes it, and return the answer. Raises Refusal where it does not."""
        while True:
            status, answer = exchange(self._http, "POST", path, order.body.encode(), headers)
            self._statuses.append(status)
            if status in (200, 202):
                return answer
            if status not in RETRYABLE:
                raise Refusal(f"{path.rpartition('/')[2]} {order.body[:200]} was answered {status}: {answer[:500]!r}")
            time.sleep(RETRY_S)


class WithdrawalClient(_Client):
    """One connection to members, which requests withdrawals as a teller."""

    def __init__(self, url: str, tokens: Tokens, statuses: list[int]) -> None:
        super().__init__(url, statuses)
        self._tokens = tokens

    def submit(self, orders: Sequence[Order]) -> list[str | None]:
        """Request withdrawals one after another, and return their ids."""
        return [self._requested(order) for order in orders]

    def _requested(self, order: Order) -> str:
        headers = {
            "Authorization": self._tokens.header(), "Content-Type": "application/json", "Idempotency-Key": order.key,
        }  # fmt: skip
        return str(json.loads(self._posted("/v1/withdrawals", order, headers))["id"])


class CallbackClient(_Client):
    """One connection of the provider's to mobile-money, which confirms payments. It appends each to ``sent``."""

    def __init__(self, url: str, path: str, statuses: list[int], sent: list[Order]) -> None:
        super().__init__(url, statuses)
        self._path = path
        self._sent = sent

    def submit(self, orders: Sequence[Order]) -> list[str | None]:
        """Confirm payments one after another, and return the ids of their sagas, which their receipts determine."""
        for order in orders:
            self._sent.append(order)
            self._posted(self._path, order, {"Content-Type": "application/json"})
        return [saga_of(order.key) for order in orders]


def saga_of(receipt: str) -> str:
    """Return the id of a receipt's saga."""
    return derived_id("receipt", PROVIDER, SHORT_CODE, receipt, 1)


def confirmation_path(stack: Running) -> str:
    """Return the path at which mobile-money takes confirmations, its secret included."""
    code = next(each for each in SHORT_CODES if each.digits == SHORT_CODE)
    secret = Home(stack.stack.home).password(code.secret(CALLBACK)).split()[0]
    return f"{CALLBACK_PATH}/{code.name}/{secret}/c2b-confirmation"
