"""The gate of dividends, whose float goes back once, and the business day that is closed or open with a reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.ledger import DayMeasured, HoldPlaced
from messages.members import DividendPayoutReleased, DividendWaveRequested
from messages.mobile_money import BusinessDayDecided, WaveRefused, WaveReserved
from messages.saga import DividendPayoutFailed
from mobile_money import claims, day_api, floats, lanes, waves
from mobile_money.claims import ClaimRefused
from mobile_money.day_api import Closing, report_of
from mobile_money.domain import Float, Lane, LaneId
from mobile_money.importing import File, import_file
from mobile_money.statement_api import bounds_of
from mobile_money.step_requests import ReserveWave
from mobile_money.waves import Traffic
from support.builders import a
from support.mobile_money import Sending, receipt, result

DAY = date(2026, 11, 29)
CALM = Traffic(under_way=0, in_doubt=0, ended=0, last_ended_at=None, oldest_sent_at=None, is_paused=False)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HEADER = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Reason Type"


def wave(sending: Sending, *, amount_minor: int = 500_000) -> WaveReserved | WaveRefused:
    event = a(
        DividendWaveRequested, saga_id=new_id(), saga_type="dividend_wave", run_id="2025-DIV", wave=1, attempt=1,
        provider="daraja", short_code=sending.code.short_code, currency="KES", amount_minor=amount_minor,
        charge_minor=1_800, payouts=2,
    )  # fmt: skip
    other = sending.of_saga(saga_id=event.saga_id)
    (answered,) = other.deliver(event)
    assert isinstance(answered, WaveReserved | WaveRefused)
    return answered


def told(sending: Sending, minor: int) -> None:
    with sending.engine.begin() as tx:
        floats.tell(tx, sending.code.short_code, at=sending.now, utility_minor=minor)


def free(sending: Sending) -> int | None:
    with sending.engine.begin() as tx:
        return floats.lock(tx, [sending.code.short_code]).of(sending.code.short_code).free_minor


def dividend(sending: Sending, wave_saga_id: str) -> Sending:
    """Release a payout of a wave, and let its hold be placed."""
    other = sending.of_saga(saga_type="dividend_payout")
    line = {"run_id": "2025-DIV", "line_id": f"2025-DIV:{new_id()}:DIVIDEND", "wave_saga_id": wave_saga_id}
    other.deliver(a(DividendPayoutReleased, **other.common(fee_minor=0, excise_minor=0, **line)))
    other.deliver(a(HoldPlaced, source="DIVIDEND", **other.common(**line)))
    return other


def test_a_wave_reserves_its_float_and_its_payouts_take_it_and_give_it_back_once(sending: Sending) -> None:
    told(sending, 1_000_000)
    reserved = wave(sending)
    assert isinstance(reserved, WaveReserved)
    assert free(sending) == 500_000
    paid, failed = dividend(sending, reserved.saga_id), dividend(sending, reserved.saga_id)
    assert free(sending) == 500_000, "taken from the wave's, and nothing besides"
    for each in (paid, failed):
        each.send()
    assert paid.row().lane == "BULK"
    body = result(paid.own_id(), receipt(), B2CUtilityAccountAvailableFunds=None)
    assert types(paid.callback("b2c", body)) == ["PayoutPaid"]
    assert free(sending) == 500_000, "paid: it left the balance and the reservations"
    assert types(failed.callback("b2c", result(failed.own_id(), code=2040))) == ["PayoutFailed"]
    event = a(DividendPayoutFailed, saga_id=failed.saga_id, saga_type="dividend_payout")
    for _ in range(2):
        failed.deliver(replace(event, message_id=new_id()))
        assert free(sending) == 750_000


def test_equal_lines_of_a_run_are_payouts_of_their_own(sending: Sending) -> None:
    told(sending, 1_000_000)
    reserved = wave(sending)
    first, second = dividend(sending, reserved.saga_id), dividend(sending, reserved.saga_id)
    for each in (first, second):
        each.send()
    assert first.own_id() != second.own_id()
    assert (first.state, second.state) == ("SENT", "SENT")


def test_a_wave_is_refused_for_too_little_float_and_for_what_is_kept_for_members(sending: Sending) -> None:
    assert wave(sending).reason == "unknown_float"  # type: ignore[union-attr]  # it is refused
    told(sending, 500_000)
    assert wave(sending).reason == "insufficient_float"  # type: ignore[union-attr]  # its charges are not covered
    told(sending, 600_000)
    with sending.engine.begin() as tx:
        values = {"code": sending.code.short_code}
        tx.execute(text("UPDATE floats SET members_reserve_minor = 99000 WHERE short_code = :code"), values)
    assert wave(sending).reason == "insufficient_float"  # type: ignore[union-attr]  # members come first


def test_a_wave_is_refused_while_its_lane_is_paused(sending: Sending) -> None:
    told(sending, 1_000_000)
    lane = LaneId(short_code=sending.code.short_code, name=Lane.BULK)
    with sending.engine.begin() as tx:
        lanes.pause(tx, lane, reason="stop", by="treasurer", now=sending.now)
    assert wave(sending).reason == "lane_paused"  # type: ignore[union-attr]  # it is refused


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        (CALM, None),
        (replace(CALM, is_slowed=True), "spike_arrest"),
        (replace(CALM, under_way=2, in_doubt=2, ended=98), "in_doubt"),
        (replace(CALM, under_way=1, in_doubt=1, ended=99), None),
        (replace(CALM, under_way=51, ended=51, last_ended_at=NOW - timedelta(seconds=61)), "silence"),
        (replace(CALM, under_way=50, ended=50, last_ended_at=NOW - timedelta(seconds=61)), None),
        (replace(CALM, under_way=51, ended=51, last_ended_at=NOW - timedelta(seconds=59)), None),
    ],
)
def test_the_gate_watches_doubt_silence_and_the_providers_limit(traffic: Traffic, reason: str | None) -> None:
    request = ReserveWave(
        saga_id="s", step="reserve_wave", short_code="600100", amount_minor=1, charge_minor=0, payouts=1
    )
    assert waves.decide(request, Float(utility_minor=10, reserved_minor=0), traffic, NOW).reason == reason


def statement(sending: Sending, account: str, rows: list[str]) -> None:
    begins_at, ends_at = bounds_of(DAY)
    content = "\n".join([f"{account} of {sending.code.short_code}", HEADER, *rows]).encode()
    file = File(
        account=account, name=account, content=content, begins_at=begins_at, ends_at=ends_at, imported_by="treasurer"
    )
    with sending.engine.begin() as tx:
        import_file(tx, sending.code, file, sending.needed, now=sending.now)


def closing(sending: Sending, *, utility_minor: int) -> BusinessDayDecided:
    """Ask to close the day, let the ledger measure it, and return what is decided."""
    with sending.engine.begin() as tx:
        report = day_api._request(
            tx, sending.needed, sending.code, Closing(short_code=sending.code.short_code, day="2026-11-29"), "Jane",
            sending.now,
        )  # fmt: skip
    other = sending.of_saga(saga_id=report.saga_id)
    measured = a(
        DayMeasured, saga_id=report.saga_id, saga_type="end_of_day", provider="daraja",
        short_code=sending.code.short_code, day="2026-11-29", run=report.run, currency="KES",
        utility_minor=utility_minor, working_minor=0, charges_minor=0,
    )  # fmt: skip
    (decided,) = other.deliver(measured)
    assert isinstance(decided, BusinessDayDecided)
    return decided


def test_a_day_is_open_with_its_reason_until_all_of_it_is_explained_and_then_it_is_closed(sending: Sending) -> None:
    assert closing(sending, utility_minor=0).reason == "no statement of utility, working, charges"
    paid_in = f"{receipt()},2026-11-29 10:00:00,Pay Bill,Completed,100.00,,100.00,Pay Utility"
    statement(sending, "UTILITY", [paid_in])
    statement(sending, "WORKING", [])
    statement(sending, "CHARGES", [])
    different = closing(sending, utility_minor=0)
    assert (different.state, different.run, different.difference_minor) == ("OPEN", 2, 10_000)
    closed = closing(sending, utility_minor=10_000)
    assert (closed.state, closed.reason, closed.run) == ("CLOSED", None, 3)
    with pytest.raises(Exception, match="CLOSED"):
        closing(sending, utility_minor=10_000)


def test_a_payout_in_doubt_is_in_the_days_report_and_keeps_no_day_open(sending: Sending) -> None:
    sending.pay()
    sending.send()
    for account in ("UTILITY", "WORKING", "CHARGES"):
        statement(sending, account, [])
    with sending.engine.begin() as tx:
        tx.execute(text("UPDATE payouts SET requested_at = :at"), {"at": sending.now})
        report = report_of(tx, sending.code, DAY)
    assert (report["in_doubt"], report["in_doubt_minor"]) == (1, 250_000)
    assert closing(sending, utility_minor=0).state == "CLOSED"


def test_a_row_that_is_booked_by_hand_is_explained_by_two_persons_and_its_day_closes(sending: Sending) -> None:
    number = receipt()
    row = f"{number},2026-11-29 10:00:00,Deposit of Funds,Completed,100.00,,100.00,Deposit of Funds"
    statement(sending, "UTILITY", [row])
    statement(sending, "WORKING", [])
    statement(sending, "CHARGES", [])
    before = closing(sending, utility_minor=10_000)
    assert (before.state, before.difference_minor) == ("OPEN", -10_000), "the ledger has it, and it is listed besides"
    known = {"short_code": sending.code.short_code, "receipt": number, "account": "UTILITY", "kind": "TRANSFER"}

    def propose(**more: str) -> str:
        given = {"posting_id": new_id(), "reason": "float", "by": "Jane", **known, **more}
        with sending.engine.begin() as tx:
            return claims.propose_booked(tx, **given, now=sending.now)

    with pytest.raises(ClaimRefused, match="without a match"):
        propose(kind="OUT")
    claim_id, other_id = propose(), propose()
    with pytest.raises(ClaimRefused, match="another person"), sending.engine.begin() as tx:
        claims.decide(tx, claim_id, is_approved=True, by="JANE", now=sending.now)
    assert closing(sending, utility_minor=10_000).state == "OPEN", "proposed is not approved"
    with sending.engine.begin() as tx:
        claims.decide(tx, claim_id, is_approved=True, by="Joe", now=sending.now)
    with pytest.raises(ClaimRefused, match="without a match"), sending.engine.begin() as tx:
        claims.decide(tx, other_id, is_approved=True, by="Joe", now=sending.now)
    assert sending.decide() == [], "it is evidence of nothing"
    closed = closing(sending, utility_minor=10_000)
    assert (closed.state, closed.reason) == ("CLOSED", None)
