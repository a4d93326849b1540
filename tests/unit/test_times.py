"""Times as people write them: one rule, and a message whose example can be typed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from chassis.values.times import full_date, rfc3339


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21t10:00z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21 10:00:00.25+02:00", datetime(2026, 11, 21, 10, 0, 0, 250_000, timezone(timedelta(hours=2)))),
    ],
)
def test_a_time_with_a_zone_is_taken(text: str, expected: datetime) -> None:
    assert (rfc3339(text), rfc3339(text).utcoffset()) == (expected, expected.utcoffset())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "2026-11-21+02:00Z",
        "2026-11-21x10:00Z",
        "2026-W47-6T10:00Z",
        "20261121T1000Z",
        "1764000000",
        "2026-02-30",
        "2026-02-30T10:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T10:00:00+25:00",
        "2026-11-21T10:00:00+02:99",
        "2026-11-21T10:00:00Z\n",
        "٢٠٢٦-١١-٢١T10:00:00Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Not a time as RFC 3339 writes it, for example 2026-11-21T10:00:00Z$"):
        rfc3339(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21", "It has no time of day; write it like 2026-11-21T00:00:00Z"),
        ("2026-11-21Z", "It has no time of day; write it like 2026-11-21T00:00:00Z"),
        ("2026-11-21+02:00", "It has no time of day; write it like 2026-11-21T00:00:00+02:00"),
        ("2026-11-21T10:00", "It has no zone; write 2026-11-21T10:00:00Z for UTC, or 2026-11-21T10:00:00+02:00"),
        (
            "2026-11-21T10:00:00.5",
            "It has no zone; write 2026-11-21T10:00:00.5Z for UTC, or 2026-11-21T10:00:00.5+02:00",
        ),
    ],
)
def test_what_is_missing_is_named_with_a_time_that_is_taken(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as refused:
        rfc3339(text)

    for advised in re.findall(r"\d{4}-\S+(?<!,)", str(refused.value)):
        assert rfc3339(advised)


def test_a_day_is_written_in_one_way() -> None:
    assert full_date("2028-02-29") == date(2028, 2, 29)
    for text in ("", "today", "20261121", "2026-W47-6", "2026-11-21T00:00:00Z", "2026-02-30", "2026-11-21\n"):
        with pytest.raises(ValueError, match="Not a day as RFC 3339"):
            full_date(text)
