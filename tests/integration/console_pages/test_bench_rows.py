"""What the console's benchmark writes into the tracker's tables is what the tracker itself would have counted."""

from __future__ import annotations

import json
import re

import pytest

from baraza.bench import tracker_rows
from baraza.bench.owner import owner_connection
from baraza.system.running import Running
from chassis.wire.envelope import new_id
from support.console_stage import Stage, caused
from support.tracker_peers import successes

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

DRAWING = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)


def test_copies_are_counted_listed_and_have_the_timelines_that_were_wanted(stage: Stage) -> None:
    saga_id = new_id()
    stage.wire.publish(*caused(successes(saga_id)))
    stage.wire.becomes(saga_id, "CONFIRMED")
    running = Running(stack=stage.wire.stack)
    operator = stage.console.signed_in("opal.okafor")
    for entries in (30, 1_000):
        made = tracker_rows.make_timeline(running, entries)
        page = operator.get(f"/sagas/{made}")
        found = DRAWING.search(page.text)
        assert found is not None
        drawn = json.loads(found[1])["entries"]
        assert len(drawn) == entries
        known = {each["message_id"] for each in drawn}
        assert len(known) == entries
        assert any(each["causation_id"] in known for each in drawn)
    tracker_rows.fill(running, 3_000)
    assert tracker_rows.differences(running) == []
    with owner_connection(running, tracker_rows.TRACKER) as connection:
        assert connection.execute("SELECT count(*) FROM sagas").fetchone() == (3_000,)
    for path in ("/sagas?state=NEEDS_REVIEW", "/sagas?state=CANCELLED_COMPENSATED", "/sagas?subject=bench-17"):
        assert "Nothing matches" not in operator.get(path).text
