"""What finance reads over HTTP, on real PostgreSQL."""

from __future__ import annotations

import csv
import io
import itertools
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from typer.testing import CliRunner

from baraza.commands import ledger as commands
from baraza.system import running
from chassis.postgres.transient import utc_now
from chassis.process.service import Dependencies
from ledger import api
from ledger.model.amounts import AMOUNT_MAX
from ledger.model.charts import LANES
from ledger.model.days import day_of, end_of
from ledger.model.transfers import Origin, Transfer, TransferKind
from ledger.store import reading
from ledger.store.booking import book
from ledger.store.closing import close_day
from stack import Stack
from support.issuer import token, verifying
from support.ledgers import FUNDING, LedgerUnderTest, hold, member, moved, post, reference, scratch_ledger, transfer

WORKING = "sacco:working:600000:KES"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def own_ledger(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    with scratch_ledger(infrastructure) as ledger:
        ledger.fund(member("ann"), 1_000)
        yield ledger


@contextmanager
def client_of(ledger: LedgerUnderTest) -> Iterator[TestClient]:
    """Yield a client of a ledger's API."""
    with verifying() as verifier:
        unused = cast(Any, None)
        dependencies = Dependencies(settings=unused, engine=ledger.engine, codec=unused, verifier=verifier)
        yield TestClient(api.application(dependencies))


@pytest.fixture(scope="module")
def client(own_ledger: LedgerUnderTest) -> Iterator[TestClient]:
    with client_of(own_ledger) as client:
        yield client


@pytest.fixture(scope="module")
def ask(client: TestClient) -> Ask:
    return asking(client)


def asking(client: TestClient) -> Ask:
    """Return what sends a request, and checks the status of its answer."""

    def send(path: str, status: int = 200, role: str = "finance", **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {token('ann', role)}"}
        answer = client.get(path, params=params, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


@pytest.mark.parametrize("role", ["customer", "operator", "support"])
@pytest.mark.parametrize(
    "path", ["/v1/accounts", f"/v1/accounts/{FUNDING}/balance", "/v1/trial-balance?chart=sacco&day=2026-01-01"]
)
def test_only_finance_reads_the_books(ask: Ask, role: str, path: str) -> None:
    ask(path, 403, role)


def test_accounts_are_listed_page_by_page_and_by_owner(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    own_ledger.open(*(member(f"m{n}") for n in range(5)))
    listed: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = ask("/v1/accounts", chart="sacco", limit=2, **cursor)
        listed += [each["account"] for each in page["accounts"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert listed == [row.path for row in own_ledger.rows("SELECT path FROM accounts ORDER BY id")]
    (only,) = ask("/v1/accounts", owner="m3")["accounts"]
    assert (only["account"], only["floor"], only["kind"]) == (member("m3"), "0", "LIABILITY")
    assert ask(f"/v1/accounts/{member('m3')}") == only


def test_a_balance_is_that_of_now_or_of_any_time(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    path = member(reference())
    yesterday = utc_now() - timedelta(days=1)
    own_ledger.fund(path, 700, effective_at=yesterday)
    own_ledger.book(hold(path, WORKING, 50))
    now = ask(f"/v1/accounts/{path}/balance")
    assert (now["posted"], now["available"], now["held_debits"]) == ("700", "650", "50")
    between = (yesterday + timedelta(hours=1)).isoformat()
    assert ask(f"/v1/accounts/{path}/balance", at=between)["posted"] == "0"
    assert ask(f"/v1/accounts/{path}/balance", at=between, by="effective")["posted"] == "700"


def test_an_effective_balance_is_as_of_now_where_no_time_is_given(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    path, started_at = member(reference()), utc_now()
    own_ledger.fund(path, 700)
    own_ledger.book(transfer(FUNDING, path, 50, effective_at=utc_now() + timedelta(days=900)))
    now = ask(f"/v1/accounts/{path}/balance", by="effective")
    assert (now["posted"], now["available"]) == ("700", None)
    assert started_at < datetime.fromisoformat(now["at"]) < utc_now()
    assert ask(f"/v1/accounts/{path}/balance")["posted"] == "750"


def test_sums_beyond_64_bits_keep_every_digit(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    path = member(reference())
    own_ledger.open(path)
    own_ledger.book(*[transfer(FUNDING, path, AMOUNT_MAX) for _ in range(3)])
    assert ask(f"/v1/accounts/{path}/balance")["posted"] == str(3 * AMOUNT_MAX)
    assert ask(f"/v1/accounts/{path}/entries")["entries"][0]["amount"] == str(-AMOUNT_MAX)


def test_a_statement_is_read_page_by_page_and_leads_to_the_timeline(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    path = member(reference())
    saga_id = reference()
    own_ledger.fund(path, 100)
    spent = [
        transfer(path, WORKING, n, origin=Origin(saga_id=saga_id, step="pay", message_id=f"m-{n}")) for n in range(1, 6)
    ]
    own_ledger.book(*spent)
    read: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = ask(f"/v1/accounts/{path}/entries", limit=4, **cursor)
        read += page["entries"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [line["amount"] for line in read] == ["-100", "1", "2", "3", "4", "5"]
    assert [line["message_id"] for line in read] == [None, *(f"m-{n}" for n in range(1, 6))]
    found = ask(f"/v1/transfers/{read[1]['reference']}")
    assert (found["saga_id"], found["step"]) == (saga_id, "pay")
    assert {(side["account"], side["amount"]) for side in found["entries"]} == {(path, "1"), (WORKING, "-1")}


def in_lane(lane: int) -> str:
    """Return a reference whose batch writes to this row of accounts that have several."""
    return next(name for name in iter(reference, "") if zlib.crc32(name.encode()) % LANES == lane)


@contextmanager
def booking_in(ledger: LedgerUnderTest, currency: str, lane: int, amount_minor: int) -> Iterator[Any]:
    """Book on a row of two accounts, and yield the transaction, which is still open."""
    debit, credit = f"shop:gateway_receivable:{currency}", f"shop:tax_payable:{currency}"
    ledger.open(debit, credit)
    entries = moved(debit, credit, amount_minor, currency)
    with ledger.engine.connect() as tx:
        book([Transfer(reference=in_lane(lane), entries=entries)], tx, now=utc_now())
        yield tx


@pytest.mark.parametrize("currency", ["EUR", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN"])
def test_who_follows_the_cursor_reads_every_entry_once_whatever_commits_meanwhile(
    own_ledger: LedgerUnderTest, ask: Ask, currency: str
) -> None:
    """Bookings begin and commit in any order between the pages; one on each row at most is under way."""
    choice = random.Random(currency)
    amounts = itertools.count(1)
    open_: dict[int, tuple[ExitStack, Any, int]] = {}
    committed: list[int] = []

    def begin(lane: int) -> None:
        amount_minor, stack = next(amounts), ExitStack()
        tx = stack.enter_context(booking_in(own_ledger, currency, lane, amount_minor))
        open_[lane] = (stack, tx, amount_minor)

    def commit(lane: int) -> None:
        stack, tx, amount_minor = open_.pop(lane)
        tx.commit()
        stack.close()
        committed.append(amount_minor)

    read: list[int] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        limit = choice.randrange(1, 5)
        # One entry more than a page shows: the reader is near to what is being booked, and never at the end.
        while len(read) < 40 and len(committed) - len(read) <= limit:
            lane = choice.randrange(LANES)
            commit(lane) if lane in open_ else begin(lane)
        page = ask(f"/v1/accounts/shop:tax_payable:{currency}/entries", limit=limit, **cursor)
        read += [-int(line["amount"]) for line in page["entries"]]
        cursor = None if page["next_cursor"] is None else {"cursor": page["next_cursor"]}
    for stack, _, _ in open_.values():
        stack.close()
    assert Counter(read) == Counter(committed)


def test_a_booking_that_ends_behind_a_page_is_on_a_later_one(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    for lane in range(3):
        with booking_in(own_ledger, "USD", lane, 1) as tx:
            tx.commit()
    path = "/v1/accounts/shop:tax_payable:USD/entries"
    with booking_in(own_ledger, "USD", 0, 10) as slow:
        for lane, amount_minor in ((1, 20), (2, 40), (1, 80)):
            with booking_in(own_ledger, "USD", lane, amount_minor) as tx:
                tx.commit()
        first = ask(path, limit=5)
        slow.commit()
    rest = ask(path, cursor=first["next_cursor"])
    assert [line["amount"] for line in first["entries"]] == ["-1", "-1", "-1", "-20", "-40"]
    assert [line["amount"] for line in rest["entries"]] == ["-10", "-80"]


def test_a_balance_is_final_before_the_oldest_booking_under_way(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    path = "/v1/accounts/shop:tax_payable:USD/balance"
    with booking_in(own_ledger, "USD", 0, 1) as older, booking_in(own_ledger, "USD", 1, 1):
        begun = older.execute(text("SELECT now()")).scalar_one()
        with own_ledger.engine.connect() as tx:
            assert reading.settled_until(tx) == begun - reading.SETTLING
        assert ask(path, at=(begun - reading.SETTLING).isoformat())["is_final"] is True
        for params in ({"at": begun.isoformat()}, {"at": "2026-01-01T00:00:00Z", "by": "effective"}, {}):
            assert ask(path, **params)["is_final"] is False, params
    with own_ledger.engine.connect() as tx:
        assert reading.settled_until(tx) > begun - reading.SETTLING


def test_a_transfer_names_what_it_resolves_and_what_resolved_it(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    held = hold(member("ann"), WORKING, 10)
    posted = post(held)
    own_ledger.book(held, posted)
    assert ask(f"/v1/transfers/{held.reference}")["resolved_by"] == posted.reference
    assert ask(f"/v1/transfers/{posted.reference}")["of"] == held.reference
    correction = transfer(WORKING, member("ann"), 10, kind=TransferKind.CORRECTION, of=posted.reference)
    own_ledger.book(correction)
    assert ask(f"/v1/transfers/{correction.reference}")["kind"] == "CORRECTION"


def test_a_trial_balance_is_balanced(own_ledger: LedgerUnderTest, ask: Ask) -> None:
    own_ledger.book(
        transfer("sacco:bank:USD", WORKING, 1, entries=moved("sacco:bank:USD", "sacco:working:600000:USD", 1, "USD"))
    )
    found = ask("/v1/trial-balance", chart="sacco", day=(datetime.now(UTC) + timedelta(days=1)).date().isoformat())
    assert (found["zone"], found["closed_at"], found["at_close"]) == ("Africa/Nairobi", None, [])
    assert (found["late"], found["late_count"]) == ([], 0)
    sums: dict[str, int] = {}
    for line in found["lines"]:
        sums[line["currency"]] = sums.get(line["currency"], 0) + int(line["debits"]) - int(line["credits"])
    assert sums == {"KES": 0, "USD": 0}


@pytest.mark.parametrize(
    ("path", "status", "params"),
    [
        ("/v1/accounts/sacco:fosa:none:KES", 404, {}),
        ("/v1/accounts/sacco:fosa:none:KES/balance", 404, {}),
        ("/v1/transfers/none", 404, {}),
        ("/v1/accounts", 422, {"cursor": "x"}),
        ("/v1/accounts", 422, {"cursor": "9" * 40}),
        ("/v1/accounts", 422, {"chart": "another"}),
        (f"/v1/accounts/{FUNDING}/entries", 422, {"cursor": "abc"}),
        (f"/v1/accounts/{FUNDING}/entries", 422, {"limit": 0}),
        (f"/v1/accounts/{FUNDING}/balance", 422, {"at": "0001-01-01T00:00:00Z"}),
        (f"/v1/accounts/{FUNDING}/balance", 422, {"at": "2026-01-01T00:00:00"}),
        ("/v1/trial-balance", 422, {"chart": "sacco", "day": "9999-12-31"}),
        ("/v1/trial-balance", 422, {"chart": "sacco", "day": "2026-02-30"}),
        ("/v1/trial-balance", 422, {"chart": "sacco", "day": "1764374400"}),
        ("/v1/trial-balance", 422, {"chart": "sacco", "day": "2026-11-29T00:00:00Z"}),
        ("/v1/trial-balance", 422, {"chart": "sacco"}),
    ],
)
def test_what_is_not_there_or_not_understood_is_said(ask: Ask, path: str, status: int, params: dict[str, Any]) -> None:
    assert ask(path, status, **params)["status"] == status


def test_a_bad_day_is_answered_with_what_a_day_is(ask: Ask) -> None:
    for day in ("2026-02-30", "yesterday", "9999-12-31"):
        (error,) = ask("/v1/trial-balance", 422, chart="sacco", day=day)["errors"]
        assert "2026-11-21" in error["detail"], error


def test_two_authorization_headers_are_answered_as_described(client: TestClient) -> None:
    description = cast(Any, client.app).openapi()
    for path, methods in description["paths"].items():
        if "get" in methods and path.startswith("/v1/"):
            assert "400" in methods["get"]["responses"], path
    headers = [("Authorization", f"Bearer {token(name, 'finance')}") for name in ("ann", "ben")]
    assert client.get("/v1/accounts", headers=headers).status_code == 400


def test_the_command_line_requests_pages_as_long_as_every_list_allows(client: TestClient) -> None:
    description = cast(Any, client.app).openapi()
    maxima = {
        path: parameter["schema"]["maximum"]
        for path, methods in description["paths"].items()
        for parameter in methods.get("get", {}).get("parameters", ())
        if parameter["name"] == "limit"
    }
    assert maxima == dict.fromkeys(
        [
            "/v1/accounts",
            "/v1/accounts/{account}/entries",
            "/v1/manual-postings",
            "/v1/members/{member_id}/statement",
            "/v1/payouts",
            "/v1/receipts",
        ],
        commands.PAGE,
    )


def test_nothing_of_it_books(client: TestClient) -> None:
    """All writing is a manual posting's proposal, a decision about one, or the close of a day. None of that books."""
    description = cast(Any, client.app).openapi()
    writing = {path for path, methods in description["paths"].items() if set(methods) != {"get"}}
    assert writing == {
        "/v1/day-closes",
        "/v1/manual-postings",
        "/v1/manual-postings/{posting_id}/approval",
        "/v1/manual-postings/{posting_id}/refusal",
    }


class Served:
    """The command line's client, in front of the application instead of a server."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def get(self, path: str, params: Mapping[str, Any]) -> Any:
        return self._ask(path, **params)

    @contextmanager
    def api(self, _service: str) -> Iterator[Served]:
        """Stand for the running system, whose only service this is."""
        yield self


@pytest.mark.parametrize("arguments", [("accounts",), ("entries", FUNDING), ("postings", "--state", "PROPOSED")])
def test_every_list_of_the_command_line_is_written(
    ask: Ask, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "find", lambda _home: Served(ask))
    done = CliRunner().invoke(commands.app, [*arguments, "--csv"], catch_exceptions=False)
    assert (done.exit_code, done.stdout.count("\n") >= 1) == (0, True), done.output


def test_the_command_line_shows_which_balance_may_still_change(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "find", lambda _home: Served(ask))
    shown = {
        times: CliRunner().invoke(commands.app, ["balance", FUNDING, *times], catch_exceptions=False).stdout
        for times in ((), ("--at", "2026-01-01T00:00:00Z"), ("--at", "2099-01-01T00:00:00Z"))
    }
    assert ["may still change" in each for each in shown.values()] == [False, False, True]


def test_no_header_comes_before_the_error_of_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    for as_csv in (True, False):
        failing = ({"amount": 1 // number} for number in (0,))
        with pytest.raises(ZeroDivisionError):
            commands._show(failing, commands.LINE, as_csv=as_csv, as_json=False)
    assert capsys.readouterr().out == ""


def test_a_statement_of_many_pages_is_written_as_csv(
    own_ledger: LedgerUnderTest, ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "PAGE", 3)
    path = member(reference())
    own_ledger.fund(path, 100)
    own_ledger.book(*(transfer(path, WORKING, 2) for _ in range(7)))
    lines = commands._pages(cast(Any, Served(ask)), f"/v1/accounts/{path}/entries", "entries", {})
    commands._show(lines, commands.LINE, as_csv=True, as_json=False)
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["amount"] for row in read] == ["-100", *["2"] * 7]
    assert set(read[0]) == set(commands.LINE)


def test_what_is_late_for_a_closed_day_is_listed_under_it_and_every_day_since_its_value_date(
    infrastructure: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hold that is posted is listed once; a day without entries is closed all the same."""
    today = day_of(utc_now(), "Africa/Nairobi")
    days = [today - timedelta(days=each) for each in (4, 3, 2)]
    with scratch_ledger(infrastructure) as ledger, client_of(ledger) as client:
        ask = asking(client)
        for day in days:
            with ledger.engine.begin() as tx:
                close_day("sacco", day, tx, now=utc_now())
        held = hold("sacco:bank:KES", WORKING, 9, effective_at=end_of(days[1], "Africa/Nairobi") - timedelta(hours=1))
        posted = post(held, effective_at=held.effective_at)
        ledger.book(held, posted)
        found = [ask("/v1/trial-balance", chart="sacco", day=day.isoformat()) for day in (*days, today)]
    late = [[each["reference"] for each in answer["late"]] for answer in found]
    assert late == [[], [posted.reference], [posted.reference], []]
    assert [answer["late_count"] for answer in found] == [0, 1, 1, 0]
    assert [answer["closed_at"] is None for answer in found] == [False, False, False, True]
    assert [answer["at_close"] for answer in found] == [[]] * 4
    assert [len(answer["lines"]) for answer in found] == [0, 2, 2, 2]
    commands.show_trial_balance(found[1], as_csv=True)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [",".join(commands.TRIAL), "bank,KES,9,0,,", "working,KES,0,9,,"]
    assert f"closed at {found[1]['closed_at']}; 1 transfers" in shown.err
    assert posted.reference in shown.err
