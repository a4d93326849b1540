"""When a delivery is attempted again, and what an attempt means for its endpoint."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from notifier.model.schedule import (
    ATTEMPTS_MAX,
    DELAYS,
    DISABLED_AFTER,
    JITTER_MAX,
    RETRY_AFTER_MAX,
    Answer,
    Disabled,
    Outcome,
    Verdict,
    judge,
    next_due,
    outcome_of,
    retry_after,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILED = Answer(outcome=Outcome.REFUSED, status=500)


def verdict(answer: Answer, number: int = 1, failing_since: datetime | None = None) -> Verdict:
    return judge(answer, number=number, failing_since=failing_since, now=NOW, chance=random.Random(1))


def test_the_schedule_is_the_standards_and_lasts_about_three_days() -> None:
    assert ATTEMPTS_MAX == 10
    assert timedelta(days=3) < sum(DELAYS, timedelta()) < timedelta(days=3, hours=6)


def test_a_delay_is_never_shorter_than_the_schedule_and_never_much_longer() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for number, delay in enumerate(DELAYS, start=1):
        for _ in range(100):
            due_at = next_due(number, now=NOW, wanted=None, chance=chance)
            assert due_at is not None
            assert delay <= due_at - NOW <= delay * (1 + JITTER_MAX), seed


def test_deliveries_that_failed_together_do_not_come_back_together() -> None:
    chance = random.Random(3)
    assert len({next_due(2, now=NOW, wanted=None, chance=chance) for _ in range(100)}) == 100


def test_after_the_last_attempt_there_is_no_other() -> None:
    assert verdict(FAILED, ATTEMPTS_MAX) == Verdict(is_delivered=False)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_alone_is_success(status: int) -> None:
    assert outcome_of(status) is Outcome.SUCCEEDED
    assert verdict(Answer(outcome=outcome_of(status), status=status)) == Verdict(is_delivered=True)


@pytest.mark.parametrize("status", [102, 199, 300, 301, 304, 308, 400, 401, 404, 409, 500, 599])
def test_any_other_status_is_a_failure_that_is_attempted_again(status: int) -> None:
    found = verdict(Answer(outcome=outcome_of(status), status=status))
    assert not found.is_delivered
    assert found.due_at is not None
    assert found.disables is None


def test_retry_after_is_respected_but_never_shortens_the_schedule() -> None:
    longer = verdict(Answer(outcome=Outcome.REFUSED, status=503, retry_after="900"))
    assert longer.due_at == longer.slow_until == NOW + timedelta(seconds=900)
    shorter = verdict(Answer(outcome=Outcome.REFUSED, status=500, retry_after="0"))
    assert shorter.due_at is not None
    assert shorter.due_at >= NOW + DELAYS[0]
    assert shorter.slow_until is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("120", timedelta(seconds=120)),
        (" 7 ", timedelta(seconds=7)),
        (format_datetime(NOW + timedelta(minutes=3), usegmt=True), timedelta(minutes=3)),
        (format_datetime(NOW - timedelta(minutes=3), usegmt=True), timedelta()),
        ("9" * 400, RETRY_AFTER_MAX),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_none(text: str | None, expected: timedelta) -> None:
    assert retry_after(text, NOW) == expected


def test_410_disables_at_once() -> None:
    assert verdict(Answer(outcome=Outcome.REFUSED, status=410)) == Verdict(is_delivered=False, disables=Disabled.GONE)


def test_only_five_days_of_failures_disable() -> None:
    assert verdict(FAILED, failing_since=NOW - DISABLED_AFTER + timedelta(seconds=1)).disables is None
    assert verdict(FAILED, failing_since=NOW - DISABLED_AFTER).disables is Disabled.FAILING
    succeeded = Answer(outcome=Outcome.SUCCEEDED, status=200)
    assert verdict(succeeded, failing_since=NOW - timedelta(days=9)).disables is None
