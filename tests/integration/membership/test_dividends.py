"""A dividend run: approved on its hash by another person, posted in chunks, paid in waves, closed when it adds up."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.wire.envelope import derived_id
from members import running
from members.measures import MEASURES
from messages.ledger import PayoutCommitted
from messages.members import (
    DividendChunkReleased,
    DividendPayoutReleased,
    DividendRunApproved,
    DividendWaveRequested,
)
from messages.saga import (
    DividendChunkCompleted,
    DividendChunkFailed,
    DividendPayoutFailed,
    DividendRunCompleted,
    DividendRunFailed,
    DividendWaveCompleted,
    DividendWaveFailed,
)
from support.checkouts import until
from support.members import Office, envelope, new_receipt

Json = Any
YEARS = iter(range(2101, 2199))
"""What is held counts for every later year; lines of other tests' members are in each run as well."""
FAILURE: dict[str, Any] = {"cause": "REJECTED", "step": "s", "reason": "The phone is not registered."}


def computed(office: Office, **changes: Json) -> Json:
    run_id = f"R-{uuid.uuid4().hex[:10].upper()}"
    body = {
        "run_id": run_id, "year": next(YEARS), "dividend_ppm": 100_000, "rebate_ppm": 80_000,
        "regulator_reference": "SASRA/1", "meeting_reference": "AGM/1", "reason": "The board proposes it.",
    } | changes  # fmt: skip
    return office.call("finance", "POST", "/v1/dividend-runs", body, subject="Grace", status=201)


def approved(office: Office, run: Json) -> DividendRunApproved:
    body = {"lines_sha256": run["lines_sha256"], "reason": "The meeting agreed."}
    path = f"/v1/dividend-runs/{run['run_id']}/approval"
    found = office.call("approver", "POST", path, body, subject="Joseph", status=202)
    event = office.stack.event(found["saga_id"])
    assert isinstance(event, DividendRunApproved)
    return event


def declared(office: Office, run: Json) -> None:
    event = approved(office, run)
    office.stack.react(DividendRunCompleted(**_ended(event.saga_id, "dividend_run")))


def _ended(saga_id: str, saga_type: str) -> dict[str, Any]:
    return {**envelope(saga_id, saga_type), "started_at": datetime.now(UTC)}


def read(office: Office, run: Json) -> Json:
    return office.call("finance", "GET", f"/v1/dividend-runs/{run['run_id']}")


def lines(office: Office, run: Json, members: Sequence[str]) -> dict[str, Json]:
    found: list[Json] = []
    path, after = f"/v1/dividend-runs/{run['run_id']}/lines?limit=500", ""
    while True:
        page = office.call("finance", "GET", f"{path}&after={after}")
        found += page["lines"]
        if page["next"] is None:
            return {line["member_id"]: line for line in found if line["member_id"] in members}
        after = page["next"]


def released(office: Office, saga_id: str) -> Any:
    """Return the one event of a saga, once the process has released it."""
    (event,) = until(lambda: office.stack.events(saga_id), f"the saga {saga_id} begins")
    return event


def post_chunks(office: Office, run: Json, kind: str = "DECLARED") -> list[DividendChunkReleased]:
    """Let every chunk of a kind be posted, as the ledger does, until the run goes on; return the chunks."""
    found: list[DividendChunkReleased] = []
    while True:
        saga_id = derived_id("dividend chunk", run["run_id"], kind, len(found) + 1)
        state = until(
            lambda: office.stack.events(saga_id) or (read(office, run)["state"] == "PAYING" and "PAYING"),  # noqa: B023
            "the next chunk is released, or the run goes on",
        )
        if state == "PAYING":
            return found
        found.append(state[0])
        office.stack.react(DividendChunkCompleted(**_ended(saga_id, "dividend_chunk")))


def unpaid(office: Office) -> int:
    """Return what approved runs still have to pay to phones, as it is measured."""
    (found,) = [each for each in MEASURES if each.name == "baraza_dividends_unpaid_minor"]
    with office.stack.engine.connect() as tx:
        return sum(int(row[-1]) for row in found.query(tx))  # type: ignore[call-overload]  # the value is the last one


def wave(office: Office, run: Json, number: int = 1, attempt: int = 1) -> DividendWaveRequested:
    event = released(office, derived_id("dividend wave", run["run_id"], number, attempt))
    assert isinstance(event, DividendWaveRequested)
    return event


def committed(event: DividendPayoutReleased) -> PayoutCommitted:
    names = ("member_id", "provider", "short_code", "phone", "currency", "amount_minor", "fee_minor", "excise_minor",
             "run_id", "line_id", "wave_saga_id")  # fmt: skip
    return PayoutCommitted(
        **envelope(event.saga_id, "dividend_payout"), **{name: getattr(event, name) for name in names},
        source="DIVIDEND", loan_id=None, receipt=new_receipt(), completed_at=datetime.now(UTC), charge_minor=900,
    )  # fmt: skip


@pytest.fixture
def payees(office: Office) -> list[str]:
    """Four members: two with the same shares who want it on the phone, one to savings, one to shares."""
    destinations = ("MOBILE", "MOBILE", "SAVINGS", "SHARES")
    return [
        office.registered(opening_shares_minor=1_000_000, destination=destination)["member_id"]
        for destination in destinations
    ]


def test_a_run_is_approved_by_another_person_on_the_hash_of_its_lines(office: Office, payees: list[str]) -> None:
    run = computed(office)
    found = lines(office, run, payees)
    assert {found[number]["net_minor"] for number in payees} == {95_000}
    assert run["line_count"] == sum(each["line_count"] for each in run["sums"])
    path, body = f"/v1/dividend-runs/{run['run_id']}/approval", {"lines_sha256": run["lines_sha256"], "reason": "Yes."}
    office.call("approver", "POST", path, body, subject="grace", status=403)
    wrong = body | {"lines_sha256": "0" * 64}
    office.call("approver", "POST", path, wrong, subject="Joseph", status=409)
    office.stack.run_sql(
        "UPDATE dividend_lines SET net_minor = net_minor + 1 WHERE line_id = :id", id=found[payees[0]]["line_id"]
    )
    refused = office.call("approver", "POST", path, body, subject="Joseph", status=409)
    assert refused["type"] == "urn:baraza:problem:lines-changed"
    office.stack.run_sql(
        "UPDATE dividend_lines SET net_minor = net_minor - 1 WHERE line_id = :id", id=found[payees[0]]["line_id"]
    )
    event = approved(office, run)
    assert (event.lines, event.gross_minor, event.lines_sha256) == (
        run["line_count"], run["gross_minor"], run["lines_sha256"],
    )  # fmt: skip
    office.call("approver", "POST", path, body, subject="Joseph", status=409)
    body = {"run_id": run["run_id"], "year": run["year"], "dividend_ppm": 1, "rebate_ppm": 0, "reason": "Other.",
            "regulator_reference": "x", "meeting_reference": "y"}  # fmt: skip
    office.call("finance", "POST", "/v1/dividend-runs", body, subject="Grace", status=409)


def test_a_run_that_is_not_declared_may_be_approved_once_more(office: Office, payees: list[str]) -> None:
    run = computed(office)
    first = approved(office, run)
    failed = DividendRunFailed(**_ended(first.saga_id, "dividend_run"), **FAILURE)
    office.stack.react(failed)
    shown = read(office, run)
    assert (shown["state"], shown["failure_reason"]) == ("COMPUTED", FAILURE["reason"])
    second = approved(office, run)
    assert second.saga_id != first.saga_id
    office.stack.react(failed)
    assert read(office, run)["state"] == "APPROVED"
    assert len(payees) == 4


def test_a_run_is_posted_in_chunks_paid_in_waves_and_closed(office: Office, payees: list[str]) -> None:
    run, before = computed(office), unpaid(office)
    declared(office, run)
    chunks = post_chunks(office, run)
    posted = [line for chunk in chunks for line in chunk.lines]
    assert len(posted) == run["line_count"] == len({line.line_id for line in posted})
    assert all(len(chunk.lines) <= running.CHUNK_LINES_MAX for chunk in chunks)
    assert sum(line.gross_minor for line in posted) == run["gross_minor"]
    requested = wave(office, run)
    assert unpaid(office) - before == requested.amount_minor, "float is needed for it before its wave begins"
    events = office.stack.react(DividendWaveCompleted(**_ended(requested.saga_id, "dividend_wave")))
    payouts = [event for event in events if isinstance(event, DividendPayoutReleased)]
    assert len(payouts) == requested.payouts
    assert unpaid(office) == before
    assert sum(event.amount_minor for event in payouts) == requested.amount_minor
    assert {event.wave_saga_id for event in payouts} == {requested.saga_id}
    own = [event for event in payouts if event.member_id in payees]
    assert {event.member_id for event in own} == set(payees[:2])
    assert len({(event.amount_minor, event.saga_id) for event in own}) == 2, "equal lines are two payouts"
    assert own[0].saga_id == derived_id("dividend payout", own[0].line_id)
    assert office.stack.react(DividendWaveCompleted(**_ended(requested.saga_id, "dividend_wave"))) == []
    failed = DividendPayoutFailed(**_ended(own[0].saga_id, "dividend_payout"), **FAILURE)
    office.stack.react(*[committed(event) for event in payouts if event is not own[0]], failed)
    assert lines(office, run, payees)[own[0].member_id]["state"] in ("RETURNING", "RETURNED")
    returned = released(office, derived_id("dividend chunk", run["run_id"], "RETURNED", 1))
    assert [(line.line_id, line.net_minor) for line in returned.lines] == [(own[0].line_id, own[0].amount_minor)]
    assert read(office, run)["state"] == "PAYING"
    office.stack.react(DividendChunkCompleted(**_ended(returned.saga_id, "dividend_chunk")))
    until(lambda: read(office, run)["state"] == "CLOSED", "the run is closed")
    states = {number: line["state"] for number, line in lines(office, run, payees).items()}
    assert states == {own[0].member_id: "RETURNED", own[1].member_id: "PAID", payees[2]: "POSTED", payees[3]: "POSTED"}
    shares = office.stack.rows(
        "SELECT amount_minor FROM holdings WHERE member_id = :id AND source <> 'opening'", id=payees[3]
    )
    assert [row.amount_minor for row in shares] == [95_000]


def test_a_refused_wave_asks_again_under_another_id_after_a_pause_that_doubles(
    office: Office, payees: list[str]
) -> None:
    run = computed(office)
    declared(office, run)
    post_chunks(office, run)
    first = wave(office, run)
    pauses = []
    for attempt in (1, 2, 3):
        event = wave(office, run, attempt=attempt)
        assert (event.attempt, event.amount_minor, event.payouts) == (attempt, first.amount_minor, first.payouts)
        failed = DividendWaveFailed(**_ended(event.saga_id, "dividend_wave"), **FAILURE)
        office.stack.react(failed)
        (row,) = office.stack.rows("SELECT state, due_at FROM dividend_waves WHERE run_id = :id", id=run["run_id"])
        assert row.state == "WAITING"
        pauses.append(round((row.due_at - failed.occurred_at).total_seconds()))
        office.stack.run_sql("UPDATE dividend_waves SET due_at = now() WHERE run_id = :id", id=run["run_id"])
    assert pauses == [5, 10, 20]
    assert {line["state"] for number, line in lines(office, run, payees[:2]).items()} == {"POSTED"}


def test_lines_of_a_chunk_that_was_not_posted_are_in_another_one(office: Office, payees: list[str]) -> None:
    run = computed(office)
    declared(office, run)
    first = released(office, derived_id("dividend chunk", run["run_id"], "DECLARED", 1))
    office.stack.react(DividendChunkFailed(**_ended(first.saga_id, "dividend_chunk"), **FAILURE))
    until(
        lambda: [
            chunk
            for number in range(2, 6)
            for chunk in office.stack.events(derived_id("dividend chunk", run["run_id"], "DECLARED", number))
            if chunk.lines[0].line_id == first.lines[0].line_id
        ],
        "another chunk has the same lines",
    )
    assert len(payees) == 4


def test_a_run_whose_lines_do_not_add_up_stays_open_with_the_reason(office: Office, payees: list[str]) -> None:
    run = computed(office)
    declared(office, run)
    post_chunks(office, run)
    event = wave(office, run)
    office.stack.run_sql(
        "UPDATE dividend_lines SET gross_minor = gross_minor + 1 WHERE run_id = :id AND member_id = :member",
        id=run["run_id"],
        member=payees[2],
    )
    payouts = office.stack.react(DividendWaveCompleted(**_ended(event.saga_id, "dividend_wave")))
    office.stack.react(*[committed(payout) for payout in payouts if isinstance(payout, DividendPayoutReleased)])
    shown = until(lambda: (found := read(office, run))["failure_reason"] and found, "the run says why it stays open")
    assert shown["state"] == "PAYING"
    assert str(run["gross_minor"]) in shown["failure_reason"]
