"""Deliveries to real HTTP endpoints that a test lets fail in every way, by processes that a test kills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from chassis.http import webhook_signing
from notifier.calling import Caller
from notifier.domain import EventType
from notifier.model.capacity import CALLS_MAX, ENDPOINT_MAX, SLOW_S
from notifier.model.schedule import ATTEMPTS_MAX, DELAYS, DISABLED_AFTER, JITTER_MAX
from notifier.sealing import Sealing
from notifier.store import endpoints
from notifier.store.leasing import LEASE
from notifier.tasks import KEPT, OUTCOMES_KEPT, delete_old, end_undeliverable
from support.notifiers import LOOPBACK, NotifierUnderTest, until
from support.receivers import Receiver, Reply, receiving

HUGE = b"x" * 10_000_000


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def closing(_: object) -> Reply:
    return Reply(status=0)


def test_an_event_is_delivered_signed_as_the_standards_own_package_verifies(
    notifier: NotifierUnderTest, receiver: Receiver
) -> None:
    endpoint = notifier.endpoint(receiver.url)
    event_id = notifier.notify(endpoint.owner, payment_id="7")
    assert notifier.deliver() == 1
    (request,) = receiver.requests
    content = request.verify(endpoint.secret)
    assert (content["type"], content["data"]) == ("payment.captured", {"payment_id": "7"})
    assert request.headers["webhook-timestamp"] == str(int(notifier.clock().timestamp()))
    assert (request.id, request.headers["content-type"]) == (event_id, "application/json")
    assert notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED")]
    assert notifier.deliver() == 0


@pytest.mark.parametrize(
    ("reply", "outcome", "status"),
    [
        (Reply(status=500, body=b"broken"), "REFUSED", 500),
        (Reply(status=404), "REFUSED", 404),
        (Reply(status=301, headers={"Location": "http://169.254.169.254/"}), "REFUSED", 301),
        (Reply(status=302, headers={"Location": "/elsewhere"}), "REFUSED", 302),
        (Reply(status=307, headers={"Location": "/elsewhere"}), "REFUSED", 307),
        (Reply(status=500, body=HUGE), "REFUSED", 500),
        (Reply(status=0), "BROKEN_ANSWER", None),
    ],
)
def test_what_is_not_2xx_is_attempted_again_after_5_s_and_no_redirect_is_followed(
    notifier: NotifierUnderTest, reply: Reply, outcome: str, status: int | None
) -> None:
    with receiving(reply) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        assert notifier.deliver() == 1
        assert notifier.states(endpoint) == [("DUE", 1, outcome)]
        assert timedelta(seconds=5) <= notifier.due_in(endpoint) <= timedelta(seconds=6)
        assert notifier.deliver() == 0
        assert len(receiver.requests) == 1
    ((stored,),) = notifier.rows("SELECT status FROM attempts")
    assert stored == status
    columns = notifier.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'attempts'::regclass AND attnum > 0")
    assert {name for (name,) in columns} == {
        "delivery_id", "number", "position", "endpoint_id", "began_at", "duration_ms", "outcome", "status",
    }, "nothing of a response but its status is kept"  # fmt: skip


def test_a_huge_body_of_success_is_success(notifier: NotifierUnderTest) -> None:
    with receiving(Reply(status=200, body=HUGE)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        notifier.deliver()
    assert notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED")]


def test_the_schedule_is_followed_to_its_end_and_every_attempt_has_the_same_id_and_bytes(
    notifier: NotifierUnderTest,
) -> None:
    with receiving(Reply(status=500)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        process = notifier.deliverer()
        for delay in DELAYS:
            assert notifier.deliver(process) == 1
            assert delay <= notifier.due_in(endpoint) <= delay * (1 + JITTER_MAX)
            notifier.clock.now += delay
            assert notifier.deliver(process) == 0
            notifier.clock.now += delay * JITTER_MAX
        assert notifier.deliver(process) == 1
        assert notifier.states(endpoint) == [("FAILED", ATTEMPTS_MAX, "REFUSED")]
        assert len({(each.id, each.body) for each in receiver.requests}) == 1
        stamps = [each.headers["webhook-timestamp"] for each in receiver.requests]
        assert len(set(stamps)) == ATTEMPTS_MAX == 10
    numbers = notifier.rows("SELECT number FROM attempts ORDER BY position")
    assert [number for (number,) in numbers] == list(range(1, 11))


def test_retry_after_postpones_and_an_overloaded_endpoint_gets_nothing_meanwhile(notifier: NotifierUnderTest) -> None:
    with receiving(Reply(status=429, headers={"Retry-After": "600"})) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        process = notifier.deliverer()
        assert notifier.deliver(process) == 1
        assert notifier.due_in(endpoint) == timedelta(seconds=600)
        notifier.notify(endpoint.owner)
        assert notifier.deliver(process) == 0
        notifier.clock.move(seconds=601)
        receiver.reply = lambda _: Reply()
        assert notifier.deliver(process) == 2
    assert {state for state, _, _ in notifier.states(endpoint)} == {"DELIVERED"}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_overloaded_endpoint_is_left_alone_for_half_a_minute(notifier: NotifierUnderTest, status: int) -> None:
    with receiving(Reply(status=status)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        process = notifier.deliverer()
        notifier.deliver(process)
        notifier.clock.move(seconds=29)
        assert notifier.deliver(process) == 0
        notifier.clock.move(seconds=2)
        assert notifier.deliver(process) == 1


def test_410_disables_at_once_and_it_is_published_and_reported_to_the_other_endpoints(
    notifier: NotifierUnderTest, receiver: Receiver
) -> None:
    with receiving(Reply(status=410)) as gone:
        endpoint = notifier.endpoint(gone.url)
        other = notifier.endpoint(receiver.url, merchant=endpoint.owner[0], types=["endpoint.disabled"])
        notifier.notify(endpoint.owner)
        notifier.deliver()
    row = notifier.row(endpoint)
    assert (row.state, row.disabled_because, row.disabled_at) == ("DISABLED", "GONE", notifier.clock())
    assert notifier.states(endpoint) == [("FAILED", 1, "REFUSED")]
    assert [each.type for each in notifier.published(endpoint.owner)] == ["payment.captured", "endpoint.disabled"]
    with notifier.engine.begin() as tx:
        tx.execute(text("UPDATE deliveries SET due_at = :now WHERE state = 'DUE'"), {"now": notifier.clock()})
    notifier.deliver()
    (request,) = receiver.requests
    data = request.verify(other.secret)["data"]
    assert (data["endpoint_id"], data["reason"]) == (endpoint.endpoint_id, "GONE")


def test_after_five_days_of_nothing_but_failures_an_endpoint_is_disabled(notifier: NotifierUnderTest) -> None:
    with receiving(Reply(status=500)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        process = notifier.deliverer()
        notifier.deliver(process)
        notifier.clock.now += DISABLED_AFTER - timedelta(seconds=1)
        notifier.deliver(process)
        assert notifier.row(endpoint).state == "ENABLED"
        notifier.clock.move(days=1)
        notifier.deliver(process)
    assert notifier.row(endpoint).disabled_because == "FAILING"
    assert notifier.published(endpoint.owner)[-1].type == "endpoint.disabled"


def test_one_success_in_five_days_keeps_an_endpoint(notifier: NotifierUnderTest) -> None:
    with receiving(Reply(status=500)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        process = notifier.deliverer()
        notifier.notify(endpoint.owner)
        notifier.deliver(process)
        notifier.clock.move(days=3)
        receiver.reply = lambda _: Reply()
        notifier.deliver(process)
        receiver.reply = lambda _: Reply(status=500)
        notifier.clock.move(days=3)
        notifier.notify(endpoint.owner)
        notifier.deliver(process)
    assert notifier.row(endpoint).state == "ENABLED"


def test_what_a_disabled_endpoint_does_not_get_ends_as_failed(notifier: NotifierUnderTest) -> None:
    with receiving(Reply(status=410)) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        for _ in range(ENDPOINT_MAX + 3):
            notifier.notify(endpoint.owner)
        notifier.deliver()
        assert len(receiver.requests) == ENDPOINT_MAX
    with notifier.engine.begin() as tx:
        assert not end_undeliverable(tx, now=notifier.clock())
    assert {state for state, _, _ in notifier.states(endpoint)} == {"FAILED"}


def test_a_process_that_is_killed_loses_nothing_and_another_one_sends_it_again(notifier: NotifierUnderTest) -> None:
    answer = threading.Event()

    def slow(_: object) -> Reply:
        answer.wait(60)
        return Reply()

    with receiving(slow) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        event_id = notifier.notify(endpoint.owner)
        killed, other = notifier.deliverer(), notifier.deliverer()
        assert killed.run_once() == 1
        until(lambda: receiver.requests, "the call is under way")
        assert other.run_once() == 0
        assert notifier.states(endpoint) == [("DUE", 0, None)]
        notifier.clock.now += LEASE
        assert other.run_once() == 1
        answer.set()
        assert other.wait(60)
        other.run_once()
        assert notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED")]
        # The first process was only paused: what it records now is not its own any more.
        assert killed.wait(60)
        killed.run_once()
        assert receiver.ids == [event_id, event_id]
    assert notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED")]
    assert len(notifier.rows("SELECT * FROM attempts")) == 1


def test_two_processes_share_the_work_and_each_delivery_is_made_once(
    notifier: NotifierUnderTest, receiver: Receiver
) -> None:
    wanted = [notifier.notify(notifier.endpoint(f"{receiver.url}/{number}").owner) for number in range(40)]
    processes = [notifier.deliverer(), notifier.deliverer()]
    barrier = threading.Barrier(2)
    counts = {}

    def work(index: int) -> None:
        barrier.wait(60)
        counts[index] = notifier.deliver(processes[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while notifier.deliver(processes[0]):
        pass
    assert sorted(receiver.ids) == sorted(wanted)
    assert notifier.rows("SELECT DISTINCT state FROM deliveries") == [("DELIVERED",)]


def test_a_slow_endpoint_with_a_backlog_delays_nobody_else(notifier: NotifierUnderTest, receiver: Receiver) -> None:
    answer = threading.Event()

    def slow(_: object) -> Reply:
        answer.wait(60)
        return Reply()

    with receiving(slow) as stuck:
        blocked = notifier.endpoint(stuck.url)
        for _ in range(200):
            notifier.notify(blocked.owner)
        quick = notifier.endpoint(receiver.url)
        wanted = [notifier.notify(quick.owner) for _ in range(10)]
        process = notifier.deliverer()
        process.run_once()
        while len(receiver.requests) < 10:
            assert process.wait(60)
            process.run_once()
        assert sorted(receiver.ids) == sorted(wanted)
        assert len(stuck.requests) == ENDPOINT_MAX
        answer.set()


def test_many_slow_endpoints_leave_room_for_the_quick_ones(notifier: NotifierUnderTest, receiver: Receiver) -> None:
    answer, seconds = threading.Event(), [0.0]

    def slow(_: object) -> Reply:
        answer.wait(60)
        return Reply()

    with receiving(slow) as stuck:
        for number in range(60):
            notifier.notify(notifier.endpoint(f"{stuck.url}/{number}").owner)
        process = notifier.deliverer(monotonic=lambda: seconds[0])
        begun = process.run_once()
        assert process.run_once() == 0
        quick = notifier.endpoint(receiver.url)
        notifier.notify(quick.owner)
        seconds[0] += SLOW_S + 0.1  # by then the others are known to be slow
        process.run_once()
        until(lambda: receiver.requests, "the quick endpoint has its event although 32 others are stuck")
        assert begun == 32
        assert process.under_way_count <= CALLS_MAX
        answer.set()


def test_while_a_secret_is_replaced_both_sign(notifier: NotifierUnderTest, receiver: Receiver) -> None:
    endpoint, process = notifier.endpoint(receiver.url), notifier.deliverer()
    new = webhook_signing.new_secret()
    with notifier.engine.begin() as tx:
        sealed = Sealing(notifier.key_file).seal(new)
        endpoints.rotate(endpoint.endpoint_id, sealed, endpoint.owner, tx, now=notifier.clock() - timedelta(hours=23))
    notifier.notify(endpoint.owner)
    notifier.deliver(process)
    for secret in (endpoint.secret, new):
        receiver.requests[0].verify(secret)
    assert receiver.requests[0].headers["webhook-signature"].count("v1,") == 2
    notifier.clock.move(minutes=61)
    notifier.notify(endpoint.owner)
    notifier.deliver(process)
    assert receiver.requests[1].headers["webhook-signature"].count("v1,") == 1


def test_without_the_key_of_a_secret_nothing_is_sent_and_nothing_counts(
    notifier: NotifierUnderTest, receiver: Receiver
) -> None:
    endpoint, process = notifier.endpoint(receiver.url), notifier.deliverer()
    notifier.notify(endpoint.owner)
    keys = notifier.key_file.read_text()
    notifier.key_file.write_text("another key\n")
    notifier.deliver(process)
    assert receiver.requests == []
    assert notifier.states(endpoint) == [("DUE", 0, None)]
    notifier.key_file.write_text(f"another key\n{keys}")
    notifier.clock.move(minutes=5)
    notifier.deliver(process)
    receiver.requests[0].verify(endpoint.secret)


def test_an_endpoint_that_does_not_listen_is_attempted_again(notifier: NotifierUnderTest) -> None:
    with receiving() as receiver:
        url = receiver.url
    endpoint = notifier.endpoint(url)
    notifier.notify(endpoint.owner)
    notifier.deliver()
    assert notifier.states(endpoint) == [("DUE", 1, "NOT_CONNECTED")]


def test_a_call_ends_in_time_whatever_the_endpoint_does() -> None:
    end = threading.Event()

    def silent(_: object) -> Reply:
        end.wait(60)
        return Reply()

    with receiving(silent) as receiver:
        answer = Caller(LOOPBACK).call(receiver.url, b"{}", {}, is_live=False, timeout_s=0.2)
        end.set()
    assert (answer.outcome, answer.status) == ("TIMED_OUT", None)


def test_what_is_old_is_deleted_and_what_is_due_stays(notifier: NotifierUnderTest, receiver: Receiver) -> None:
    endpoint = notifier.endpoint(receiver.url)
    notifier.notify(endpoint.owner)
    notifier.deliver()
    due = notifier.notify(endpoint.owner, EventType.REFUND_SUCCEEDED)
    for age, left in ((KEPT - timedelta(hours=1), 2), (KEPT + timedelta(hours=1), 1)):
        with notifier.engine.begin() as tx:
            assert not delete_old(tx, now=notifier.clock() + age)
        assert len(notifier.rows("SELECT * FROM events")) == left
    assert notifier.rows("SELECT event_id FROM deliveries") == [(due,)]
    assert notifier.rows("SELECT * FROM attempts") == []
    assert OUTCOMES_KEPT > KEPT


def test_a_process_delivers_by_itself_and_records_what_is_under_way_when_it_is_stopped(
    notifier: NotifierUnderTest,
) -> None:
    process = notifier.deliverer()

    def stopping(_: object) -> Reply:
        ended = threading.Thread(target=process.stop)
        ended.start()
        stopped.append(ended)
        return Reply()

    stopped: list[threading.Thread] = []
    with receiving(stopping) as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        process.start()
        until(lambda: stopped, "the process delivers by itself")
        stopped[0].join(60)
        until(lambda: notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED")], "the attempt is recorded")
        notifier.notify(endpoint.owner)
        assert process.run_once() == 0
