"""Manual postings: one person proposes, another approves, and a saga posts what was approved, once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from chassis.postgres.transient import utc_now
from chassis.process.service import Dependencies
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from ledger import api
from ledger.main import OVERDUE
from ledger.outgoing import EVENTS, PARTITION
from ledger.sagas.manual_posting import OnePerson
from ledger.sagas.manual_posting import hold as manual_hold
from ledger.store.manual_postings import decide
from messages.ledger import ManualPostingApproved, ManualPostingHeld, ManualPostingPosted, ManualPostingRejected
from messages.saga import ManualPostingConfirmed, ManualPostingFailed
from proof.schemas import LocalRegistry
from support.builders import a
from support.issuer import token, verifying
from support.ledger_steps import handle, only
from support.ledgers import FUNDING, LedgerUnderTest, member, reference

CODEC = Codec(LocalRegistry())
WHY = {"reason": "The bank's fee of November."}
BIG = 2**53 + 1


class Office:
    """The ledger's API as people use it: each request is of one person with one role."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def call(
        self, method: str, path: str, *, by: str = "ann", role: str = "bookkeeper", status: int = 200, **more: Any
    ) -> Any:
        """Send a request, and return the body of the answer, which must have this status."""
        headers = {"Authorization": f"Bearer {token(by, role)}", **more.pop("headers", {})}
        answer = self._client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def propose(
        self, debit: str, credit: str, amount_minor: int, *, by: str = "ann", key: str | None = None, status: int = 201
    ) -> Any:
        sides = ((debit, amount_minor), (credit, -amount_minor))
        entries = [{"account": path, "amount": str(amount), "currency": "KES"} for path, amount in sides]
        headers = {"Idempotency-Key": key or reference()}
        body = {"entries": entries, **WHY}
        return self.call("POST", "/v1/manual-postings", by=by, status=status, json=body, headers=headers)

    def decide(self, posting: Any, verb: str, *, by: str = "ben", status: int = 200) -> Any:
        path = f"/v1/manual-postings/{posting['posting_id']}/{verb}"
        return self.call("POST", path, by=by, status=status, json={"reason": "Seen."})

    def read(self, posting: Any) -> Any:
        return self.call("GET", f"/v1/manual-postings/{posting['posting_id']}", role="finance")


@pytest.fixture
def office(ledger: LedgerUnderTest) -> Iterator[Office]:
    with verifying() as verifier:
        unused = cast(Any, None)
        dependencies = Dependencies(settings=unused, engine=ledger.engine, codec=CODEC, verifier=verifier)
        yield Office(TestClient(api.application(dependencies)))


def started(under_test: LedgerUnderTest, posting: Any) -> list[ManualPostingApproved]:
    """Return the events in the outbox that start the saga of a posting."""
    query = "SELECT aggregatetype, partition, payload FROM outbox WHERE aggregateid = :saga_id"
    rows = under_test.rows(query, saga_id=posting["posting_id"])
    assert {(row.aggregatetype, row.partition) for row in rows} <= {(EVENTS, PARTITION)}
    return [cast(ManualPostingApproved, CODEC.decode(bytes(row.payload))) for row in rows]


def test_what_two_people_want_is_posted(ledger: LedgerUnderTest, office: Office) -> None:
    payer = member(reference())
    ledger.fund(payer, BIG)
    posting = office.propose(payer, "sacco:fees:KES", BIG)
    assert (posting["state"], posting["proposed_by"]) == ("PROPOSED", "ann")
    assert started(ledger, posting) == []
    assert office.decide(posting, "approval")["state"] == "APPROVED"
    (event,) = started(ledger, posting)
    assert (event.saga_id, event.proposed_by, event.approved_by) == (posting["posting_id"], "ann", "ben")
    assert [each.amount_minor for each in event.entries] == [BIG, -BIG]

    held = only(ledger, event)
    assert isinstance(held, ManualPostingHeld)
    posted = only(ledger, held)
    assert isinstance(posted, ManualPostingPosted)
    assert handle(ledger, a(ManualPostingConfirmed, saga_id=event.saga_id, saga_type="manual_posting")) == []
    found = office.read(posting)
    assert (found["state"], found["decided_by"], found["outcome"]) == ("POSTED", "ben", None)
    assert found["entries"][0]["amount"] == str(BIG)
    assert ledger.totals()[payer] == (BIG, BIG, 0, 0)
    transfer = office.call("GET", f"/v1/transfers/{posted.reference}", role="finance")
    assert (transfer["saga_id"], transfer["entries"][0]["amount"]) == (event.saga_id, str(BIG))
    lines = office.call("GET", f"/v1/entries/{event.saga_id}", role="finance")
    assert sorted((line["debit"], line["credit"]) for line in lines) == sorted([(str(BIG), "0"), ("0", str(BIG))])


def test_what_the_ledger_rejects_ends_as_failed_with_its_reason(ledger: LedgerUnderTest, office: Office) -> None:
    payer = member(reference())
    ledger.fund(payer, 5)
    posting = office.propose(payer, FUNDING, 6)
    office.decide(posting, "approval")
    (event,) = started(ledger, posting)
    rejected = only(ledger, event)
    assert isinstance(rejected, ManualPostingRejected)
    failed = a(ManualPostingFailed, saga_id=event.saga_id, saga_type="manual_posting", reason=rejected.reason)
    handle(ledger, failed)
    assert (office.read(posting)["state"], office.read(posting)["outcome"]) == ("FAILED", "insufficient_funds")


def test_no_one_approves_what_they_proposed(ledger: LedgerUnderTest, office: Office) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    problem = office.decide(posting, "approval", by="ann", status=403)
    assert problem["type"] == "urn:baraza:problem:second-person"
    assert (office.read(posting)["state"], started(ledger, posting)) == ("PROPOSED", [])


@pytest.mark.parametrize("by", ["Ann", "ann ", "ann\u200b", "\uff41nn", "ANN\u00ad"])
def test_one_person_under_two_names_is_one_person(ledger: LedgerUnderTest, office: Office, by: str) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    office.decide(posting, "approval", by=by, status=403)
    assert (office.read(posting)["state"], started(ledger, posting)) == ("PROPOSED", [])
    approved = a(ManualPostingApproved, saga_type="manual_posting", proposed_by="ann", approved_by=by)
    with pytest.raises(OnePerson):
        manual_hold(approved)


@pytest.mark.parametrize("by", ["ann ", "ann\u200b", "e\u0301va"])
def test_a_subject_that_looks_like_another_one_neither_proposes_nor_decides(office: Office, by: str) -> None:
    problem = office.propose(FUNDING, "sacco:working:600000:KES", 1, by=by, status=403)
    assert problem["type"] == "urn:baraza:problem:subject-not-normal"
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1, by="ben")
    for verb in ("approval", "refusal"):
        assert office.decide(posting, verb, by=by, status=403)["type"] == "urn:baraza:problem:subject-not-normal"


def test_the_table_itself_refuses_one_person_alone(ledger: LedgerUnderTest, office: Office) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    alone = "UPDATE manual_postings SET state = 'APPROVED', decided_by = :by WHERE posting_id = :posting_id"
    for by in ("ann", "Ann"):
        with pytest.raises(IntegrityError, match="two_people"), ledger.engine.begin() as tx:
            tx.execute(text(alone), {"posting_id": posting["posting_id"], "by": by})
        with ledger.engine.begin() as tx:
            assert decide(posting["posting_id"], "APPROVED", tx, by=by, reason="Seen.", at=utc_now()) is None


def test_of_many_approvals_at_once_one_starts_the_saga(ledger: LedgerUnderTest, office: Office) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    path = f"/v1/manual-postings/{posting['posting_id']}/approval"
    headers = [{"Authorization": f"Bearer {token(name, 'bookkeeper')}"} for name in ("ben", "cleo", "dan", "eve")]

    def approve(header: dict[str, str]) -> int:
        return office._client.post(path, json={"reason": "Seen."}, headers=header).status_code

    with ThreadPoolExecutor(len(headers)) as pool:
        assert sorted(pool.map(approve, headers)) == [200, 409, 409, 409]
    assert len(started(ledger, posting)) == 1


def test_a_decision_that_is_repeated_is_the_same_decision(ledger: LedgerUnderTest, office: Office) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    assert office.decide(posting, "approval") == office.decide(posting, "approval")
    assert len(started(ledger, posting)) == 1
    office.decide(posting, "approval", by="cleo", status=409)
    office.decide(posting, "refusal", status=409)


def test_an_approved_posting_is_overdue_after_ten_minutes(ledger: LedgerUnderTest) -> None:
    insert = text("""
        INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by,
                                     proposed_at, state, decided_by, decided_at)
        VALUES (:id, :id, '{}', '{}', '{}', now(), 'r', 'ann', now(), :state, 'ben', now() - CAST(:age AS interval))
    """)
    with ledger.engine.connect() as tx:
        ((saga, before),) = OVERDUE.query(tx)
        for number, (state, age) in enumerate((("APPROVED", "11 min"), ("APPROVED", "9 min"), ("POSTED", "11 min"))):
            tx.execute(insert, {"id": f"overdue-{number}", "state": state, "age": age})
        assert OVERDUE.query(tx) == [("manual_posting", before + 1)]
        tx.rollback()
    assert saga == "manual_posting"


@pytest.mark.parametrize("by", ["ann", "ben"])
def test_what_is_refused_or_withdrawn_is_never_approved(ledger: LedgerUnderTest, office: Office, by: str) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    assert office.decide(posting, "refusal", by=by)["state"] == "REFUSED"
    office.decide(posting, "approval", by="cleo", status=409)
    assert started(ledger, posting) == []


def test_a_proposal_that_is_sent_again_is_one_proposal(office: Office) -> None:
    key = reference()
    first = office.propose(FUNDING, "sacco:working:600000:KES", 1, key=key)
    assert office.propose(FUNDING, "sacco:working:600000:KES", 1, key=key) == first
    office.propose(FUNDING, "sacco:working:600000:KES", 2, key=key, status=422)
    assert (
        office.propose(FUNDING, "sacco:working:600000:KES", 1, key=key, by="ben")["posting_id"] != first["posting_id"]
    )


ODD = (
    ([("sacco:bank:KES", "1", "KES"), ("sacco:working:600000:KES", "-2", "KES")], "#/entries"),
    ([("sacco:bank:KES", "1", "KES"), ("sacco:nothing:KES", "-1", "KES")], "#/entries/1/account"),
    ([("sacco:bank:KES", "1", "USD"), ("sacco:working:600000:KES", "-1", "USD")], "#/entries/0/currency"),
    ([("sacco:bank:KES", "0", "KES"), ("sacco:working:600000:KES", "0", "KES")], "#/entries/0/amount"),
    ([("sacco:bank:KES", "1.5", "KES"), ("sacco:working:600000:KES", "-1.5", "KES")], "#/entries/0/amount"),
    ([("sacco:bank:KES", str(2**63), "KES"), ("sacco:working:600000:KES", str(-(2**63)), "KES")], "#/entries/0/amount"),
    ([("sacco:bank:KES", "1", "KES")], "#/entries"),
    ([("shop:bank:USD", "1", "USD"), ("sacco:bank:USD", "-1", "USD")], "#/entries"),
)


@pytest.mark.parametrize(("sides", "pointer"), ODD, ids=range(len(ODD)))
def test_entries_that_cannot_be_posted_are_refused_when_they_are_proposed(
    office: Office, sides: list[tuple[str, str, str]], pointer: str
) -> None:
    entries = [{"account": path, "amount": amount, "currency": currency} for path, amount, currency in sides]
    headers = {"Idempotency-Key": reference()}
    body = {"entries": entries, **WHY}
    problem = office.call("POST", "/v1/manual-postings", status=422, json=body, headers=headers)
    assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize("role", ["finance", "operator", "customer"])
def test_only_bookkeepers_propose_and_decide(office: Office, role: str) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    for path in ("", f"/{posting['posting_id']}/approval", f"/{posting['posting_id']}/refusal"):
        headers = {"Idempotency-Key": reference()}
        office.call("POST", f"/v1/manual-postings{path}", role=role, status=403, json={}, headers=headers)


def test_postings_are_listed_page_by_page_and_by_state(office: Office) -> None:
    proposed = [office.propose(FUNDING, "sacco:working:600000:KES", 1)["posting_id"] for _ in range(3)]
    found: list[str] = []
    cursor: str | None = min(proposed)
    found.append(min(proposed))
    while cursor is not None:
        params = {"cursor": cursor, "limit": "1", "state": "PROPOSED"}
        page = office.call("GET", "/v1/manual-postings", role="finance", params=params)
        found += [each["posting_id"] for each in page["postings"]]
        cursor = page["next_cursor"]
    assert set(proposed) <= set(found)
    assert len(found) == len(set(found))
    office.call("GET", f"/v1/manual-postings/{new_id()}", role="finance", status=404)


@pytest.mark.parametrize("role", ["support", "operator"])
def test_who_may_not_read_a_manual_posting_may_not_read_its_entries(
    ledger: LedgerUnderTest, office: Office, role: str
) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    office.decide(posting, "approval")
    (event,) = started(ledger, posting)
    only(ledger, only(ledger, event))
    office.call("GET", f"/v1/manual-postings/{event.saga_id}", role=role, status=403)
    office.call("GET", f"/v1/entries/{event.saga_id}", role=role, status=404)
    assert len(office.call("GET", f"/v1/entries/{event.saga_id}", role="finance")) == 2


def test_a_value_date_is_kept(ledger: LedgerUnderTest, office: Office) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    sides = (("sacco:bank:KES", "7"), ("sacco:working:600000:KES", "-7"))
    entries = [{"account": path, "amount": amount, "currency": "KES"} for path, amount in sides]
    body = {"entries": entries, "effective_at": at.isoformat(), **WHY}
    headers = {"Idempotency-Key": reference()}
    posting = office.call("POST", "/v1/manual-postings", status=201, json=body, headers=headers)
    office.decide(posting, "approval")
    (event,) = started(ledger, posting)
    only(ledger, only(ledger, event))
    query = "SELECT DISTINCT effective_at FROM transfers WHERE saga_id = :saga_id"
    assert ledger.rows(query, saga_id=event.saga_id) == [(at,)]


@pytest.mark.parametrize("lost", ["DELETE FROM manual_postings", "UPDATE manual_postings SET state = 'PROPOSED'"])
def test_a_restored_database_learns_the_approval_from_its_event(
    ledger: LedgerUnderTest, office: Office, lost: str
) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    approved = office.decide(posting, "approval")
    (event,) = started(ledger, posting)
    with ledger.engine.begin() as tx:
        tx.execute(text(f"{lost} WHERE posting_id = :posting_id"), {"posting_id": posting["posting_id"]})
    only(ledger, event)
    assert office.read(posting) == approved


def test_an_approval_that_is_delivered_again_changes_no_ended_posting(ledger: LedgerUnderTest, office: Office) -> None:
    posting = office.propose(FUNDING, "sacco:working:600000:KES", 1)
    office.decide(posting, "approval")
    (event,) = started(ledger, posting)
    only(ledger, event)
    handle(ledger, a(ManualPostingConfirmed, saga_id=event.saga_id, saga_type="manual_posting"))
    ended = office.read(posting)
    assert handle(ledger, event) == []
    assert office.read(posting) == ended
