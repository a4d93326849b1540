"""The HTTP doors: callbacks that are answered at once whatever they are, and routes that refuse the wrong role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from chassis.process.service import Dependencies
from chassis.wire.codec import Codec
from messages.ledger import RepaymentPosted
from mobile_money import api, inbox
from mobile_money.inbox import Inbox
from mobile_money.intake import Deciding
from mobile_money.short_codes import ShortCode, ShortCodes
from proof.schemas import LocalRegistry
from support.builders import a
from support.issuer import token, verifying
from support.mobile_money import NUMBERS, Sending, confirmation, receipt, short_code_of
from support.services import dependencies


@pytest.fixture
def code(tmp_path: Path) -> ShortCode:
    return short_code_of("http://127.0.0.1:1", tmp_path)


@pytest.fixture
def app(engine: Engine, code: ShortCode) -> Iterator[FastAPI]:
    codes = ShortCodes(short_codes=(code,))
    needed = Deciding(short_codes=codes, codec=Codec(LocalRegistry()), phone_key=b"k")
    with verifying() as verifier:
        given = dependencies("mobile-money", verifier)
        callbacks = Inbox(engine)
        callbacks.start()
        own = Dependencies(settings=given.settings, engine=engine, codec=given.codec, verifier=verifier)
        yield api.application(own, codes, callbacks, needed)
        callbacks.stop()


def call(
    app: FastAPI, method: str, path: str, *, role: str = "", by: str = "jane", times: int = 1, **given: object
) -> httpx.Response:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {token(by, role)}"} if role else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://money", headers=headers) as client:
            return await asyncio.gather(*(client.request(method, path, **given) for _ in range(times)))  # type: ignore[arg-type]  # httpx's own

    answers = asyncio.run(run())
    assert len({each.status_code for each in answers}) == 1
    return answers[0]


def stored(engine: Engine, code: ShortCode) -> list[bytes]:
    with engine.connect() as tx:
        query = text("SELECT body FROM raw_callbacks WHERE name = :name")
        return [bytes(body) for body in tx.execute(query, {"name": code.name}).scalars()]


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\x00\xff", b'{"Body": {}}'])
def test_every_body_is_stored_as_it_came_and_answered_as_accepted(
    app: FastAPI, engine: Engine, code: ShortCode, body: bytes
) -> None:
    path = f"/v1/callbacks/{code.name}/{code.callback_secrets[0]}/stk"
    answer = call(app, "POST", path, content=body)
    assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0, "ResultDesc": "Accepted"})
    assert stored(engine, code) == [body]


def test_a_wrong_secret_name_or_kind_finds_nothing_and_is_not_stored(
    app: FastAPI, engine: Engine, code: ShortCode
) -> None:
    secret = code.callback_secrets[0]
    for path in (f"{code.name}/guess/stk", f"other/{secret}/stk", f"{code.name}/{secret}/momo-status"):
        assert call(app, "POST", f"/v1/callbacks/{path}", content=b"{}").status_code == 404
    assert stored(engine, code) == []


def test_the_same_callback_in_twenty_threads_is_twenty_answers_and_one_receipt(
    app: FastAPI, engine: Engine, code: ShortCode
) -> None:
    body = json.dumps(confirmation(code.short_code, receipt(), reference="DEP00123")).encode()
    path = f"/v1/callbacks/{code.name}/{code.callback_secrets[0]}/c2b-confirmation"
    assert call(app, "POST", path, times=20, content=body).status_code == 200
    assert len(stored(engine, code)) == 20
    sending = Sending(engine=engine, code=code)
    sending.now = sending.now.replace(year=2099)
    assert len(sending.decided()) == 1


def test_a_validation_accepts_in_doubt_and_refuses_another_short_code(app: FastAPI, code: ShortCode) -> None:
    path = f"/v1/callbacks/{code.name}/{code.callback_secrets[0]}/c2b-validation"
    own = {"BusinessShortCode": code.short_code, "BillRefNumber": "who knows", "TransAmount": "1.00"}
    assert call(app, "POST", path, json=own).json()["ResultCode"] == "0"
    assert call(app, "POST", path, content=b"<html>").json()["ResultCode"] == "0"
    assert call(app, "POST", path, json={**own, "BusinessShortCode": "111111"}).json()["ResultCode"] == "C2B00015"


def test_a_validation_refuses_a_loan_that_is_paid_and_accepts_what_it_does_not_know(
    app: FastAPI, engine: Engine, code: ShortCode
) -> None:
    path = f"/v1/callbacks/{code.name}/{code.callback_secrets[0]}/c2b-validation"
    paid, owed = f"LN{next(NUMBERS)}", f"LN{next(NUMBERS)}"

    def answer(reference: object) -> str:
        body = {"BusinessShortCode": code.short_code, "BillRefNumber": reference, "TransAmount": "1.00"}
        return str(call(app, "POST", path, json=body).json()["ResultCode"])

    assert answer(paid) == "0"
    balances = ((paid, True), (owed, False))
    loans = [{"loan_id": loan_id, "principal_minor": 0, "is_paid": is_paid} for loan_id, is_paid in balances]
    sending = Sending(engine=engine, code=code)
    for _ in range(2):
        sending.deliver(a(RepaymentPosted, saga_id=sending.saga_id, saga_type="loan_repayment", loans=loans))
    assert [answer(text) for text in (paid, f" {paid.lower()[:2]} - {paid[2:]}", owed, "", 7, None)] == [
        "C2B00012", "C2B00012", "0", "0", "0", "0"
    ]  # fmt: skip


def test_a_validation_accepts_where_nothing_can_be_looked_up(engine: Engine, code: ShortCode) -> None:
    """Its database is away: the payer is not refused for that."""
    codes = ShortCodes(short_codes=(code,))
    needed = Deciding(short_codes=codes, codec=Codec(LocalRegistry()), phone_key=b"k")
    app = api.application(dependencies("mobile-money"), codes, Inbox(engine), needed)
    path = f"/v1/callbacks/{code.name}/{code.callback_secrets[0]}/c2b-validation"
    body = {"BusinessShortCode": code.short_code, "BillRefNumber": "LN1", "TransAmount": "1.00"}
    assert call(app, "POST", path, json=body).json() == {"ResultCode": "0", "ResultDesc": "Accepted"}


def test_staff_read_and_only_the_right_role_acts(app: FastAPI, code: ShortCode) -> None:
    for path in ("money/in-doubt", "lanes", "floats", "receipts", "money-callbacks", "statements", "claims", "days"):
        assert call(app, "GET", f"/v1/{path}", role="support").status_code == 200, path
        assert call(app, "GET", f"/v1/{path}", role="member").status_code == 403, path
        assert call(app, "GET", f"/v1/{path}").status_code == 401, path
    lane = f"/v1/lanes/{code.short_code}/MEMBERS"
    change = {"state": "PAUSED", "reason": "the password expired"}
    assert call(app, "POST", lane, role="support", json=change).status_code == 403
    assert call(app, "POST", lane, role="treasury", json=change).status_code == 204
    assert call(app, "POST", lane, role="treasury", json=change).status_code == 409
    (paused,) = [row for row in call(app, "GET", "/v1/lanes", role="support").json()["rows"]
                 if row["short_code"] == code.short_code]  # fmt: skip
    assert (paused["state"], paused["changed_by"]) == ("PAUSED", "jane")


def test_a_statement_is_imported_over_http_by_treasury_and_a_day_asked_for_by_finance(
    app: FastAPI, code: ShortCode
) -> None:
    header = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Reason Type"
    content = f"{header}\n{receipt()},2026-11-29 10:00:00,Pay,Completed,100.00,,100.00,Pay Utility\n".encode()
    path = f"/v1/statements?short_code={code.short_code}&account=UTILITY&day=2026-11-29&name=day.csv"
    assert call(app, "POST", path, role="teller", content=content).status_code == 403
    answer = call(app, "POST", path, role="treasury", content=content)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"rows": 1, "new_rows": 1, "matched": 1, "listed": 0, "gaps": 0, "is_repeated": False}
    assert call(app, "POST", path, role="treasury", content=b"a,b").status_code == 422
    report = call(app, "GET", f"/v1/days/{code.short_code}/2026-11-29/report", role="finance").json()
    assert report["report"]["rows"] == 1
    body = {"short_code": code.short_code, "day": "2026-11-29", "report_sha256": report["report_sha256"]}
    assert call(app, "POST", "/v1/days", role="treasury", json=body).status_code == 403
    asked = call(app, "POST", "/v1/days", role="finance", json=body)
    assert asked.status_code == 202, asked.text
    assert call(app, "POST", "/v1/days", role="finance", json=body).status_code == 409


def test_a_row_that_is_none_of_ours_is_booked_by_hand_as_two_persons_say_and_then_explained(
    app: FastAPI, code: ShortCode
) -> None:
    number = receipt()
    header = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Reason Type"
    row = f"{number},2026-11-28 10:00:00,From the bank,Completed,5000.00,,5000.00,Organization Settlement"
    path = f"/v1/statements?short_code={code.short_code}&account=UTILITY&day=2026-11-28&name=day.csv"
    imported = call(app, "POST", path, role="treasury", content=f"{header}\n{row}\n".encode()).json()
    assert (imported["matched"], imported["listed"]) == (0, 1)

    def listed(match: str = "LISTED") -> list[dict[str, object]]:
        rows = call(app, "GET", f"/v1/statement-rows?match={match}", role="support").json()["rows"]
        return [each for each in rows if each["receipt"] == number]

    (shown,) = listed()
    booked = {
        "posting_id": "01JCZ3K8T0ABCDEFGHJKMNPQRS", "short_code": code.short_code, "receipt": number,
        "kind": shown["kind"], "reason": "the float of Friday",
    }  # fmt: skip
    assert call(app, "POST", "/v1/claims/booked", role="approver", json=booked).status_code == 403
    other = {**booked, "receipt": receipt()}
    assert call(app, "POST", "/v1/claims/booked", role="treasury", json=other).status_code == 409, "no such row"
    proposed = call(app, "POST", "/v1/claims/booked", role="treasury", json=booked)
    assert proposed.status_code == 201, proposed.text
    claim = proposed.json()["claim_id"]
    claims = call(app, "GET", "/v1/claims", role="approver").json()["rows"]
    (found,) = [each for each in claims if each["claim_id"] == claim]
    assert (found["outcome"], found["receipt"], found["proposed_by"]) == ("BOOKED", number, "jane")
    decision = {"decision": "APPROVED"}
    assert call(app, "POST", f"/v1/claims/{claim}", role="approver", by="JANE", json=decision).status_code == 409
    assert listed(), "one person explains nothing"
    assert call(app, "POST", f"/v1/claims/{claim}", role="approver", by="zuri", json=decision).status_code == 204
    (matched,) = listed("MATCHED")
    assert matched["saga_id"] == booked["posting_id"]
    assert listed() == []
    assert call(app, "POST", "/v1/claims/booked", role="treasury", json=booked).status_code == 409, "it is explained"


def test_the_kinds_of_paths_are_those_of_each_provider() -> None:
    assert inbox.KINDS["momo"] == ("momo",)
    assert "b2c-timeout" in inbox.KINDS["daraja"]
