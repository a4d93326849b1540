"""The console in front of the whole system: what finance, tellers and support do there, and the result."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from baraza.storefront.sacco.people import SHORT_CODE, People, people
from baraza.storefront.sacco.registering import register
from baraza.system.running import Running
from chassis.values.money import shown
from support.consoles import Browser, ConsoleAddress
from support.merchant_system import DECLINED, Merchant, listening
from support.shop import Shop
from support.waiting import until

pytestmark = pytest.mark.timeout(600)
TELLER, APPROVER, FINANCE, SUPPORT = "tessa.teller", "ade.approver", "fatma.finance", "sue.support"
PAID = 750
"""What a member pays under a reference that names no one, in shillings."""


@pytest.fixture(scope="module")
def console(open_shop: Shop) -> Iterator[ConsoleAddress]:
    endpoints = open_shop.stack.endpoints
    with httpx.Client(timeout=60, trust_env=False) as http:
        yield ConsoleAddress(url=endpoints.url("console"), issuer=endpoints.url("issuer"), http=http)


@pytest.fixture(scope="module")
def staff(open_shop: Shop) -> Iterator[People]:
    with people(Running(stack=open_shop.stack)) as found:
        yield found


@pytest.fixture(scope="module")
def member(staff: People) -> dict[str, str]:
    number = int(datetime.now(UTC).timestamp()) % 10**6
    found = {
        "member_id": f"CON{number:06}", "name": "Mary Console", "phone": f"25470{number:07}", "language": "en",
        "destination": "SAVINGS",
    }  # fmt: skip
    register(staff, [found], lambda _count: None)
    return found


def paid_in(staff: People, member: dict[str, str], reference: str) -> str:
    """Pay in at a phone, and return the receipt's number."""
    body = {
        "msisdn": f"25471{int(member['phone'][-7:]):07}", "short_code": SHORT_CODE, "amount": PAID,
        "bill_reference": reference,
    }  # fmt: skip
    return str(staff.provider.call("POST", "/pay", body=body)["receipt"])


def listed(browser: Browser, path: str, sign: str) -> str:
    """Return a page once it has a sign."""
    page: str = until(lambda: browser.get(path).text, f"{sign} is at {path}", holds=lambda text: sign in text)
    return page


def proposal_of(page: str, kind: str) -> str:
    found = re.search(rf"/proposals/{kind}/(\w+)/approval", page)
    assert found is not None
    return found[1]


def test_a_teller_proposes_whose_a_receipt_is_and_another_person_approves_it(
    shop: Shop, console: ConsoleAddress, staff: People, member: dict[str, str]
) -> None:
    receipt = paid_in(staff, member, "for my aunt")
    teller, approver = console.signed_in(TELLER), console.signed_in(APPROVER)
    assert teller.get("/").headers["location"] == "/money"
    assert teller.get("/sagas").status_code == 403
    listed(teller, "/unallocated", receipt)
    page = teller.get(f"/unallocated/{receipt}").text
    assert "KES" in page
    assert "for my aunt" in html.unescape(page)
    proposed = teller.act(
        f"/unallocated/{receipt}/assignments", member_id=member["member_id"], reason="she called", ticket="T-1"
    )
    assert proposed.headers["location"] == "/unallocated?done=1"
    page = teller.get("/unallocated").text
    assert "You proposed it; another person looks at it." in page or "this needs approver" in html.unescape(page)
    name = proposal_of(page, "assignments")
    assert teller.act(f"/proposals/assignments/{name}/approval", reason="mine").status_code == 403
    shown = approver.get("/unallocated").text
    assert "T-1: she called" in html.unescape(shown)
    assert approver.act(f"/proposals/assignments/{name}/approval", reason="checked").status_code == 303
    until(
        lambda: staff.members.get(f"/v1/receipts/{receipt}"),
        "the receipt is the member's",
        holds=lambda found: found["state"] == "ALLOCATED" and found["member_id"] == member["member_id"],
    )
    assert receipt not in approver.get("/unallocated").text


def test_a_receipt_is_found_by_its_number_and_its_saga_is_explained(
    shop: Shop, console: ConsoleAddress, staff: People, member: dict[str, str]
) -> None:
    receipt = paid_in(staff, member, member["member_id"])
    support = console.signed_in(SUPPORT)
    found = until(
        lambda: support.get(f"/find?q={receipt}"), "the receipt is found", holds=lambda each: each.status_code == 303
    )
    page = listed(support, found.headers["location"], "Every step ran.")
    assert "receipt" in page
    assert member["phone"] not in page


def test_support_looks_at_a_payment_and_finance_at_the_runs(shop: Shop, console: ConsoleAddress) -> None:
    support, finance = console.signed_in(SUPPORT), console.signed_in(FINANCE)
    with listening() as endpoint:
        merchant = Merchant(shop=shop, endpoint=endpoint)
        merchant.register("USD")
        payment_id = merchant.pay(12_34, "USD")
        merchant.reaches(payment_id, "CAPTURED")
        declined = merchant.pay(5_00, "USD", DECLINED)
        merchant.reaches(declined, "FAILED")
        assert merchant.merchant_id in support.get("/merchants").text
        page = html.unescape(support.get(f"/merchants/{merchant.merchant_id}?mode=test").text)
        assert payment_id in page
        assert shown(12_34, "USD") in page
        assert endpoint.url in page
    page = support.get(f"/payments/{declined}").text
    assert "failed" in page
    assert support.get("/payments/nonsense").status_code == 404
    assert support.get("/reconciliation").status_code == 403
    assert finance.get("/reconciliation").status_code == 200
    assert "<td>payment</td>" in listed(support, f"/sagas?reference={payment_id}", "Confirmed")


def test_the_list_is_exported_as_a_file_without_whom_it_is_about(shop: Shop, console: ConsoleAddress) -> None:
    order = shop.place()
    shop.outcome(order.order_id)
    support = console.signed_in(SUPPORT)
    answer = support.get("/sagas.csv?type=order&state=CONFIRMED&state=CANCELLED_COMPENSATED")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert order.order_id in {row["saga_id"] for row in rows}
    assert {row["type"] for row in rows} == {"order"}
    assert all("•" in row["subject"] or row["subject"] == "–" for row in rows)


def test_now_counts_what_the_list_has(shop: Shop, console: ConsoleAddress) -> None:
    order = shop.place()
    shop.outcome(order.order_id)
    page = listed(console.signed_in(SUPPORT), "/", "How they ended in the last hour")
    row = re.search(r"<td>order</td><td class=\"number\"><a [^>]+>(\d+)</a>", page)
    assert row is not None
    assert int(row[1]) > 0
