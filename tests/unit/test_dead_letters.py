"""What the headers of a dead letter say, whatever their source."""

from __future__ import annotations

import pytest

from chassis.saga.dead_letters import read


@pytest.mark.parametrize(("text", "attempts"), [("3", 3), ("", 0), ("²", 0), ("-1", 0), ("9" * 5_000, 0)])
def test_attempts_that_are_no_number_read_as_none(text: str, attempts: int) -> None:
    assert read((("baraza_attempts", text.encode()),)).attempts == attempts
