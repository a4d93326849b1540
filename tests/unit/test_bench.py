"""The benchmark's own arithmetic and connections; each of its runs audits the work that it measures."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, pstdev

import psutil
import pytest

from baraza.bench import revisions
from baraza.bench.arrivals import TICK_S, Arrivals, arrival_times_s
from baraza.bench.comparison import figures_of, ratios
from baraza.bench.load import BATCH_ORDERS, DueOrder, exchange, paced
from baraza.bench.measurement import Measured, combined
from baraza.bench.orders import uniform_orders
from baraza.bench.profile import samples_by_part
from baraza.bench.session import REPEATS_MAX, Session
from baraza.bench.usage import Meter, Reading, Usage
from baraza.terminal import Refusal
from support.waiting import until


def test_a_samples_time_in_the_driver_belongs_to_the_drivers_caller() -> None:
    driver = "execute (sqlalchemy/engine/base.py:1);execute (psycopg/cursor.py:1)"
    lines = [
        f"run (chassis/process/worker.py:1);load (chassis/saga/effects.py:1);{driver} 3",
        f"run (chassis/process/worker.py:1);save_stock (inventory/tables.py:1);{driver} 2",
        "run (chassis/process/worker.py:1);consume (chassis/process/worker.py:1) 1",
        "run (faust/worker.py:1);select (selectors.py:1) 4",
        "Worker.run (chassis/process/worker.py:1);UnitOfWork.emit (chassis/saga/unit_of_work.py:1);"
        "Codec.encode (chassis/wire/codec.py:1) 6",
        "Worker.run (chassis/process/worker.py:1);Relay.publish.<locals>.<listcomp> (chassis/saga/publisher.py:1) 7",
        "elsewhere (unknown.py:1) 5",
    ]
    expected = {"load": 3, "save": 2, "fetch": 1, "Faust": 4, "encode": 6, "publish": 7, "other": 5}
    assert samples_by_part(lines) == expected


def interval(seconds: float, confirmed: int, cancelled: int, *, cpu_s: float) -> Measured:
    return Measured(
        name="clean",
        began_at_s=0.0,
        seconds=seconds,
        offered_per_s=None,
        confirmed=confirmed,
        cancelled=cancelled,
        latencies_ms=[],
        cpu_s={"payment": cpu_s},
        load_cpu_s=0.0,
        others_cores=0.0,
        stolen_cores=0.0,
        statuses={202: confirmed},
    )


def test_intervals_of_unequal_length_count_by_their_length() -> None:
    measured = combined([interval(5.0, 95, 5, cpu_s=1.0), interval(15.0, 0, 0, cpu_s=1.0)])
    assert measured.per_s == 5.0
    assert measured.cpu_ms_per_saga == 20.0
    assert measured.statuses == {202: 95}
    assert measured.intervals_per_s == [20.0, 0.0]


@dataclass
class Waiting(threading.Event):
    """An event that is never set, over a clock that its waits move."""

    now_s: float = 1_000.0

    def __post_init__(self) -> None:
        super().__init__()

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += timeout or 0.0
        return False

    def clock(self) -> float:
        return self.now_s


@pytest.mark.parametrize("arrivals", Arrivals)
def test_a_late_sender_catches_up_and_each_order_counts_from_its_own_time(arrivals: Arrivals) -> None:
    time_ = Waiting()
    times_s = arrival_times_s(arrivals, per_second=500.0, began_at_s=time_.now_s)
    due = paced(uniform_orders(), times_s, clock=time_.clock)
    assert due(time_)
    time_.now_s += 1.0
    sent: list[DueOrder] = []
    while (batch := due(time_))[-1].at_s < 1_001.0:
        assert len(batch) <= BATCH_ORDERS
        sent += batch
    assert 300 < len(sent) < 700
    assert [each.at_s for each in sent] == sorted(each.at_s for each in sent)
    assert sent[0].at_s < 1_000.1, "it is late by a second, and that counts"
    assert len({each.order.key for each in sent}) == len(sent)


def test_poisson_arrivals_have_their_rate_and_no_beat() -> None:
    """The gaps of a Poisson process vary as much as they last; those of beats are either nothing or a whole beat."""
    count, per_second = 20_000, 225.0
    times_s = list(islice(arrival_times_s(Arrivals.POISSON, per_second=per_second, began_at_s=5.0), count))
    gaps_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert count / (times_s[-1] - 5.0) == pytest.approx(per_second, rel=0.03)
    assert pstdev(gaps_s) / fmean(gaps_s) == pytest.approx(1.0, rel=0.03)
    in_beats = list(islice(arrival_times_s(Arrivals.EVEN, per_second=per_second, began_at_s=5.0), count))
    assert count / (in_beats[-1] - 5.0) == pytest.approx(per_second, rel=0.01)
    assert len({round((each - 5.0) / TICK_S, 6) % 1 for each in in_beats}) == 1


def reading(at_s: float, stack_s: float, load_s: float, busy_s: float) -> Reading:
    return Reading(at_s=at_s, stack_s={"payment": stack_s}, load_s=load_s, busy_s=busy_s, stolen_s=at_s / 10)


def test_what_the_machine_did_for_others_is_what_was_neither_the_stack_nor_the_load() -> None:
    used = Usage.between(reading(10.0, 1.0, 0.5, 100.0), reading(20.0, 9.0, 1.5, 112.0))
    assert (used.seconds, used.stack_s, used.load_s) == (10.0, {"payment": 8.0}, 1.0)
    assert used.others_cores == pytest.approx(0.3)
    assert used.stolen_cores == pytest.approx(0.1)


def test_the_kernels_count_includes_every_other_process() -> None:
    """The real count: a process that is neither of the stack nor of the load shows as others."""

    class NoStack:
        def process_ids(self) -> dict[str, int]:
            return {}

    meter = Meter(NoStack())  # type: ignore[arg-type]
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = meter.read()
        until(lambda: psutil.Process(spinning.pid).cpu_times().user, "it has used 0.2 s", holds=lambda used: used > 0.2)
        used = Usage.between(before, meter.read())
    finally:
        spinning.kill()
        spinning.wait()
    assert used.others_cores * used.seconds > 0.1


class Measuring(Session):
    """A session whose measurements are made up: one for each value of ``others_cores``."""

    def __init__(self, others_cores: Sequence[float]) -> None:
        self._others = iter(others_cores)

    def _measure_once(self, name: str, *_: object, **__: object) -> Measured:
        return replace(interval(5.0, 1, 0, cpu_s=1.0), others_cores=next(self._others))


@pytest.mark.parametrize(
    ("others_cores", "kept", "repeated"),
    [([0.05], 0.05, 0), ([0.3, 0.2, 0.09], 0.09, 2), ([0.4, 0.2, 0.3, 0.25], 0.2, REPEATS_MAX)],
)
def test_an_interval_in_which_the_machine_worked_for_others_is_repeated(
    others_cores: Sequence[float], kept: float, repeated: int
) -> None:
    measured = Measuring(others_cores)._measure("clean", 5.0, None)
    assert (measured.others_cores, measured.repeated) == (kept, repeated)


def result(p50_ms: float, per_s: float) -> dict[str, object]:
    return {
        "loads": [
            {"load": "saturated", "per_s": per_s, "p50_ms": None, "cpu_ms_per_saga": 2.0},
            {"load": "225/s", "per_s": 225.0, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms, "cpu_ms_per_saga": 6.0},
        ]
    }


def test_versions_are_compared_pair_by_pair_so_that_a_slow_hour_does_not_count() -> None:
    runs = [(result(60.0, 990.0), result(100.0, 1_000.0)), (result(180.0, 490.0), result(300.0, 500.0)),
            (result(70.0, 1_000.0), result(100.0, 1_000.0))]  # fmt: skip
    found = {each.figure: each for each in ratios([(figures_of(this), figures_of(other)) for this, other in runs])}
    p50 = found["p50 at 225/s, ms"]
    assert (p50.median, p50.lowest, p50.highest, p50.pairs) == pytest.approx((0.6, 0.6, 0.7, 3))
    assert found["saturated, sagas a second"].median == pytest.approx(0.99)
    assert "p50 at 5/s, ms" not in found, "a version that does not measure it is not compared by it"


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(
        ("git", "-C", str(root), *identity, *arguments), check=True, capture_output=True, text=True
    ).stdout.strip()


LAUNCHER = """#!/bin/sh
here=$(dirname "$0")
echo "$here $*" >> "{log}"
echo progress >&2
printf '%s\n' 'a table' '{{"loads": [{{"load": "225/s", "p50_ms": {p50_ms}}}]}}'
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose launcher pretends to measure: 100 ms at its first commit, 60 ms in its working tree."""
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    for path in revisions.LOAD:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).mkdir() if not path.endswith(".py") else (root / path).write_text("")
    for p50_ms in (100.0, 60.0):
        (root / "baraza").write_text(LAUNCHER.format(log=tmp_path / "log", p50_ms=p50_ms))
        (root / "baraza").chmod(0o755)
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--allow-empty", "--message", str(p50_ms))
    monkeypatch.setattr(revisions, "ROOT", root)
    return root


@pytest.mark.parametrize("shares_load", [True, False])
def test_two_versions_run_alternately_and_the_worktree_is_removed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares_load: bool
) -> None:
    monkeypatch.setattr(revisions, "_shares_load", lambda _version: shares_load)
    plan = revisions.Plan(seconds=1.0, warm_up_s=2.0, arrivals=Arrivals.POISSON, pairs_max=2, seconds_max=None)
    pairs = list(revisions.compared("HEAD~1", plan))
    assert [each.median for each in ratios(pairs)] == [0.6]
    this, other = (
        ("steady --seconds 1.0 --warm-up 2.0 --arrivals poisson",) * 2
        if shares_load
        else ("peers --seconds 1.0 --arrivals even", "peers --seconds 1.0")
    )
    ran = [line.partition(" bench ") for line in (tmp_path / "log").read_text().splitlines()]
    assert [arguments for _, _, arguments in ran] == [f"{each} --json" for each in (this, other, other, this)]
    assert [root == str(repository) for root, _, _ in ran] == [True, False, False, True]
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not list((repository / ".baraza" / "compared").iterdir())


def test_a_revision_that_is_not_there_is_refused(repository: Path) -> None:
    plan = revisions.Plan(seconds=1.0, warm_up_s=2.0, arrivals=Arrivals.POISSON, pairs_max=1, seconds_max=0.0)
    with pytest.raises(Refusal, match="no such revision"):
        list(revisions.compared("never-made", plan))


class ClosingUnannounced(BaseHTTPRequestHandler):
    """Closes every connection after one response, without announcing it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


def test_an_idle_connection_that_the_server_closed_is_opened_again() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), ClosingUnannounced) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        assert [exchange(connection, "GET", "/", None, {}) for _ in range(3)] == [(200, b"ok")] * 3
        connection.close()
        server.shutdown()
        thread.join()
