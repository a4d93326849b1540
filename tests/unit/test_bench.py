"""The benchmark's own arithmetic and connections; each of its runs audits the work that it measures."""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from baraza.bench.load import BATCH_ORDERS, TICK_S, exchange, paced
from baraza.bench.measurement import Measured, combined
from baraza.bench.orders import uniform_orders
from baraza.bench.profile import samples_by_part


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
        statuses={202: confirmed},
    )


def test_intervals_of_unequal_length_count_by_their_length() -> None:
    measured = combined([interval(5.0, 95, 5, cpu_s=1.0), interval(15.0, 0, 0, cpu_s=1.0)])
    assert measured.per_s == 5.0
    assert measured.cpu_ms_per_saga == 20.0
    assert measured.statuses == {202: 95}
    assert measured.intervals_per_s == [20.0, 0.0]


def test_a_late_sender_catches_up_and_reports_no_latency_too_short() -> None:
    began_at_s, per_second = time.monotonic(), 10 / TICK_S
    due = paced(uniform_orders(), per_second=per_second)
    while time.monotonic() < began_at_s + 4.5 * TICK_S:
        pass
    stopping = threading.Event()
    late, due_at_s = due(stopping)
    assert 40 <= len(late) <= BATCH_ORDERS
    assert due_at_s - began_at_s < 2 * TICK_S
    assert len(due(stopping)[0]) <= BATCH_ORDERS


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
