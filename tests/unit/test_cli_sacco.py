"""The commands of a SACCO: what they send to members, mobile-money and the ledger, and what they show of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from baraza.commands import money, sacco_options
from baraza.commands.dividends import hash_of
from baraza.terminal import UsageRefusal
from support.command_line import Case, CommandLine, Ended
from support.elsewhere import Answer, Call, Elsewhere, answering

ID = "01JCZ3K8T0ABCDEFGHJKMNPQRS"
SAYS = ("--reason", "asked for")
SINCE = "2026-11-21T10:00:00Z"
DOUBT: Mapping[str, Any] = {
    "saga_id": ID, "saga_type": "withdrawal", "step": "send_payout", "member_id": "00123", "provider": "daraja",
    "short_code": "600100", "phone": "254712345678", "currency": "KES", "amount_minor": 150_000, "since": SINCE,
    "state": "UNSURE", "attempt": 1, "sends": 2, "last_sent_at": SINCE, "queries": 3, "queried_at": SINCE,
    "next_look_at": "2026-11-21T10:15:00Z",
}  # fmt: skip
RECEIPT: Mapping[str, Any] = {
    "receipt": "RKTQDM7W6S", "short_code": "600100", "saga_id": ID, "state": "SUSPENSE", "reason": "unknown_reference",
    "amount_minor": 50_050, "currency": "KES", "reference": "0O123", "hint_member_id": "00123", "waiting_s": 93_600,
}  # fmt: skip
ACCEPTED = {"id": ID, "state": "REQUESTED", "advice": "It is under way, so do not request it again."}
PROPOSED = {"proposal_id": ID, "state": "PROPOSED"}


class Stack:
    """Commands against services elsewhere that answer as ``answers`` says: by request, without its query."""

    def __init__(self, command_line: CommandLine, folder: Path, services: Elsewhere) -> None:
        self._command_line = command_line
        self._environment = {"PATH": os.defpath, "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "120"}
        self._environment["BARAZA_PLACES"] = services.file(folder)
        self.calls = services.calls

    def run(self, *arguments: str, content: str = "") -> Ended:
        return self._command_line.run(Case(arguments=arguments, environment=self._environment, content=content))


def serving(answers: Mapping[str, Any]) -> Callable[[Call], Answer]:
    def answer(call: Call) -> Answer:
        found = answers.get(call.request.partition("?")[0])
        if found is None:
            return Answer(status=404, content=b'{"detail": "There is none."}')
        return found if isinstance(found, Answer) else Answer(content=json.dumps(found).encode())

    return answer


@pytest.mark.parametrize(
    ("text", "minor"), [("1500", 150_000), ("0.01", 1), ("1500.50", 150_050), (" 7 ", 700), ("250000", 25_000_000)]
)
def test_an_amount_in_shillings_is_exact_in_cents(text: str, minor: int) -> None:
    assert sacco_options.minor_of(text) == minor


@pytest.mark.parametrize(
    "text", ["", "0", "0.00", "-5", "1,500", "1.5", "1e3", "nan", "inf", "²", "1500 KES", "9" * 40]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageRefusal, match="write shillings"):
        sacco_options.minor_of(text)


@pytest.mark.parametrize(("text", "ppm"), [("12.5", 125_000), ("0", 0), ("100", 1_000_000), ("0.0001", 1)])
def test_a_rate_in_per_cent_is_exact(text: str, ppm: int) -> None:
    assert sacco_options.ppm_of(text, "--interest") == ppm


@pytest.mark.parametrize("text", ["", "100.0001", "-1", "12,5", "nan", "0.00001", "999"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageRefusal, match="--interest"):
        sacco_options.ppm_of(text, "--interest")


@pytest.mark.parametrize("text", ["", "a b", "00", "0" * 17, "../x", "é12", "x?y=1"])
def test_what_is_no_members_number_is_refused(text: str) -> None:
    with pytest.raises(UsageRefusal, match="a member's number"):
        sacco_options.member_of(text)


def test_a_number_is_sent_in_capitals_and_a_hash_in_small_letters() -> None:
    assert sacco_options.member_of(" a0b ") == "A0B"
    assert sacco_options.loan_of("ln17") == "LN17"
    assert hash_of("--lines-sha256", "AB" * 32) == "ab" * 32


@pytest.mark.parametrize("text", ["2026-02-30", "noon", "21.11.2026", ""])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(UsageRefusal, match="is not a day"):
        sacco_options.day_of(text)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5, "5 s"), (90, "1 min"), (5_400, "1 h 30 min"), (93_600, "1 d 2 h"), (None, "")]
)
def test_an_age_has_its_two_largest_units(seconds: float | None, shown: str) -> None:
    assert sacco_options.age(seconds) == shown


def test_money_in_doubt_shows_whose_how_much_since_when_what_was_asked_and_the_next_look() -> None:
    row = dict(zip(money.IN_DOUBT, money.doubt_row(DOUBT, datetime(2026, 11, 21, 11, 30, tzinfo=UTC)), strict=True))

    assert row["whose"] == "00123"
    assert row["amount"] == "KES 1,500.00"
    assert (row["since"], row["age"]) == (SINCE, "1 h 30 min")
    assert (row["sent"], row["queried"]) == (2, f"3, last {SINCE}")
    assert row["next look"] == "2026-11-21T10:15:00Z"
    paused = money.doubt_row({**DOUBT, "state": "PAUSED", "next_look_at": None}, datetime(2026, 11, 22, tzinfo=UTC))
    assert dict(zip(money.IN_DOUBT, paused, strict=True))["next look"] == "when its lane opens"


@pytest.mark.parametrize(
    ("changed", "status"),
    [({}, 0), ({"state": "PAUSED", "next_look_at": None}, 0), ({"next_look_at": None}, 1)],
)
def test_money_that_nothing_looks_for_any_more_is_a_problem(
    command_line: CommandLine, tmp_path: Path, changed: dict[str, Any], status: int
) -> None:
    with answering(serving({"GET /mobile-money/v1/money/in-doubt": {"in_doubt": [{**DOUBT, **changed}]}})) as services:
        ended = Stack(command_line, tmp_path, services).run("money", "in-doubt")

    assert (ended.status, ID in ended.stdout) == (status, True), ended
    assert ("./baraza statement import" in ended.stderr) is bool(status)


def test_the_work_list_has_each_receipt_of_every_page_with_its_age(command_line: CommandLine, tmp_path: Path) -> None:
    pages = [
        {"receipts": [RECEIPT], "next_at": SINCE, "next": "RKTQDM7W6S"},
        {"receipts": [{**RECEIPT, "receipt": "RKTQDM7W6T"}], "next_at": None, "next": None},
    ]
    with answering(lambda call: Answer(content=json.dumps(pages["after=" in call.request]).encode())) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run("money", "unallocated")

    assert ended.status == 0, ended
    assert "RKTQDM7W6S\t1 d 2 h\tKES 500.50\tunknown_reference\t0O123\t00123\t600100" in ended.stdout
    assert "RKTQDM7W6T" in ended.stdout
    assert "after_at=2026-11-21T10%3A00%3A00Z" in stack.calls[1].request


def test_a_withdrawal_is_sent_once_for_its_key_and_says_not_to_request_it_again(
    command_line: CommandLine, tmp_path: Path
) -> None:
    with answering(serving({"POST /members/v1/withdrawals": ACCEPTED})) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run("withdrawals", "request", "00123", "--amount", "1500", "--idempotency-key", "k-1")

    assert ended.status == 0, ended
    assert stack.calls[0].headers["idempotency-key"] == "k-1"
    assert stack.calls[0].body == {"member_id": "00123", "amount_minor": 150_000}
    assert "do not request it again" in ended.stdout


@pytest.mark.parametrize("answer", [Answer(status=0), Answer(status=500), Answer(content=b"<html>")])
def test_a_request_whose_answer_is_lost_says_how_to_repeat_it(
    command_line: CommandLine, tmp_path: Path, answer: Answer
) -> None:
    with answering(lambda _: answer) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run("deposits", "request", "00123", "--amount", "500")
        key = stack.calls[0].headers["idempotency-key"]

    assert ended.status == 1
    assert f"--idempotency-key {key}" in ended.stderr


def test_a_proposal_is_approved_where_it_is_found(command_line: CommandLine, tmp_path: Path) -> None:
    answers = {f"POST /members/v1/returns/{ID}/approval": {**PROPOSED, "state": "APPROVED"}}
    with answering(serving(answers)) as services:
        ended = Stack(command_line, tmp_path, services).run("money", "approve", ID, *SAYS, "--by", "zuri")

    assert (ended.status, ended.stdout) == (0, f"{ID}  APPROVED\n"), ended


def test_proposals_of_both_kinds_are_listed(command_line: CommandLine, tmp_path: Path) -> None:
    row = {
        "proposal_id": ID, "receipt": "RKTQDM7W6S", "state": "PROPOSED", "member_id": "00123", "proposed_by": "ann",
        "reason": "her phone", "decided_by": None, "outcome": None,
    }  # fmt: skip
    answers = {"GET /members/v1/assignments": [row], "GET /members/v1/returns": [row]}
    with answering(serving(answers)) as services:
        ended = Stack(command_line, tmp_path, services).run("money", "proposals", "--json")

    assert [json.loads(line)["kind"] for line in ended.stdout.splitlines()] == ["assignment", "return"], ended


@pytest.mark.parametrize(("gaps", "status"), [(0, 0), (2, 1)])
def test_a_statement_with_gaps_is_a_problem(command_line: CommandLine, tmp_path: Path, gaps: int, status: int) -> None:
    found = {"rows": 3, "new_rows": 2, "matched": 1, "listed": 1, "gaps": gaps, "is_repeated": False}
    file = tmp_path / "utility.csv"
    file.write_text('["a CSV, which this server reads as JSON"]')
    with answering(serving({"POST /mobile-money/v1/statements": found})) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run(
            "statement", "import", str(file), "--short-code", "600100", "--account", "utility", "--day", "2026-11-21"
        )

    assert ended.status == status, ended
    assert "3 rows, 2 of them new: 1 matched, 1 listed" in ended.stdout
    assert stack.calls[0].headers["content-type"] == "text/csv"
    assert "account=UTILITY&name=utility.csv&day=2026-11-21" in stack.calls[0].request
    assert stack.calls[0].body == ["a CSV, which this server reads as JSON"]


def test_a_row_that_a_manual_posting_has_booked_is_claimed_and_listed(
    command_line: CommandLine, tmp_path: Path
) -> None:
    row = {
        "claim_id": ID, "short_code": "600100", "saga_id": ID, "step": "posting", "outcome": "BOOKED",
        "receipt": "RKTQDM7W6S", "account": "WORKING", "kind": "TRANSFER", "reason": "float", "state": "PROPOSED",
        "proposed_by": "ann", "proposed_at": SINCE, "decided_by": None, "decided_at": None,
    }  # fmt: skip
    answers = {
        "POST /mobile-money/v1/claims/booked": {"claim_id": ID}, "GET /mobile-money/v1/claims": {"rows": [row]}
    }  # fmt: skip
    with answering(serving(answers)) as services:
        stack = Stack(command_line, tmp_path, services)
        given = ("--posting", ID, "--kind", "transfer", "--account", "working", "--short-code", "600100")
        ended = stack.run("statement", "booked", "rktqdm7w6s", *given, *SAYS, "--by", "ann")
        claims = stack.run("statement", "claims")

    assert (ended.status, ended.stdout) == (0, f"{ID}  PROPOSED\n"), ended
    assert f"./baraza statement approve {ID} --by NAME" in ended.stderr
    assert stack.calls[0].body == {
        "posting_id": ID, "receipt": "RKTQDM7W6S", "short_code": "600100", "account": "WORKING", "kind": "TRANSFER",
        "reason": "asked for",
    }  # fmt: skip
    assert (claims.status, "RKTQDM7W6S" in claims.stdout) == (0, True), claims


@pytest.mark.parametrize(("state", "status"), [("CLOSED", 0), ("OPEN", 1)])
def test_a_day_that_stays_open_is_a_problem_with_its_reason(
    command_line: CommandLine, tmp_path: Path, state: str, status: int
) -> None:
    row = {
        "day": "2026-11-21", "short_code": "600100", "run": 1, "saga_id": ID, "state": state, "signed_by": "zuri",
        "reason": "no statement of charges" if status else None,
    }  # fmt: skip
    requested = {"saga_id": ID, "run": 1, "report_sha256": "ab" * 32}
    answers = {"POST /mobile-money/v1/days": requested, "GET /mobile-money/v1/days": {"rows": [row]}}
    with answering(serving(answers)) as services:
        ended = Stack(command_line, tmp_path, services).run("day", "close", "600100", "2026-11-21", "--by", "zuri")

    assert ended.status == status, ended
    assert ("no statement of charges" if status else "signed by zuri") in ended.stdout


def test_members_are_registered_by_a_file(command_line: CommandLine, tmp_path: Path) -> None:
    content = "member_id,name,phone,opening_shares_minor,opening_deposits_minor\n00123,Ann Wanjiru,0712345678,5000,0\n"
    with answering(serving({"POST /members/v1/members/bulk": {"registered": 1, "known": 0}})) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run("members", "load", "-", "--json", content=content)

    assert json.loads(ended.stdout) == {"members": 1, "registered": 1, "known": 0}, ended
    assert stack.calls[0].body == [
        {
            "member_id": "00123", "name": "Ann Wanjiru", "phone": "0712345678", "opening_shares_minor": 5000,
            "opening_deposits_minor": 0,
        }
    ]  # fmt: skip


def test_a_statement_of_savings_is_in_shillings(command_line: CommandLine, tmp_path: Path) -> None:
    line = {
        "reference": "=HYPERLINK(0)", "amount": "-150000", "balance": "5050", "booked_at": SINCE, "effective_at": SINCE,
        "saga_id": ID, "step": "place_hold",
    }  # fmt: skip
    page = {"account": "sacco:fosa:00123:KES", "lines": [line], "next_cursor": None}
    with answering(serving({"GET /ledger/v1/members/00123/statement": page})) as services:
        ended = Stack(command_line, tmp_path, services).run("members", "statement", "00123")

    assert ended.status == 0, ended
    assert "KES -1,500.00\tKES 50.50\t'=HYPERLINK(0)" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("withdrawals", "request", "00123", "--amount", "1,500"), "write shillings"),
        (("deposits", "request", "x", "--amount", "5"), "a member's number"),
        (("loans", "approve", "17", *SAYS), "a loan's number"),
        (("loans", "approve", "LN17", "--reason", " "), "--reason is empty"),
        (("dividends", "approve", "2025-DIV", "--lines-sha256", "ab", *SAYS), "no SHA-256"),
        (("money", "callbacks", "--fate", "LOST"), "choose one of APPLIED"),
        (("money", "lane", "600100", "FAST", "OPEN", *SAYS), "choose one of MEMBERS, BULK"),
        (("statement", "import", "-", "--short-code", "600100", "--account", "SAVINGS"), "choose one of UTILITY"),
        (("statement", "import", "-", "--short-code", "600100", "--account", "UTILITY"), "is empty"),
        (("day", "close", "600100", "yesterday"), "is not a day"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_called(
    command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    with answering(serving({})) as services:
        stack = Stack(command_line, tmp_path, services)
        ended = stack.run(*arguments)

    assert (ended.status, ended.stdout, stack.calls) == (2, "", []), ended
    assert said in ended.stderr
