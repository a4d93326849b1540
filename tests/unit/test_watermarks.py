"""Watermarks: never later than is certain, whatever Kafka answers and whenever the answer is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from saga_tracker.ingest.watermarks import End, WatermarkTracker

PAYMENT, SHIPPING, ELSEWHERE = ("payment.events", 0), ("shipping.events", 0), ("payment.events", 1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def answer(seconds: float, offset: int) -> End:
    return End(offset=offset, answered_at=at(seconds))


def test_one_answer_proves_nothing_because_it_may_be_as_old_as_its_fetch() -> None:
    tracker = WatermarkTracker()
    tracker.observe(PAYMENT, None, 5)
    tracker.observe(PAYMENT, answer(1, 5), 5)
    assert tracker.recorded_until([PAYMENT]) == {}
    assert not tracker.is_caught_up([PAYMENT])


def test_an_end_that_is_recorded_proves_the_time_of_the_answer_before() -> None:
    tracker = WatermarkTracker()
    tracker.observe(PAYMENT, answer(1, 5), 5)
    tracker.observe(PAYMENT, answer(2, 5), 5)
    assert tracker.recorded_until([PAYMENT]) == {0: at(1)}
    assert tracker.is_caught_up([PAYMENT])


def test_the_watermark_stays_while_kafka_does_not_answer() -> None:
    tracker = WatermarkTracker()
    for seconds in (1, 2, 2, 2):
        tracker.observe(PAYMENT, answer(seconds, 5), 5)
    assert tracker.recorded_until([PAYMENT]) == {0: at(1)}


def test_an_answer_that_waited_while_the_process_was_suspended_proves_nothing_about_that_time() -> None:
    tracker = WatermarkTracker()
    tracker.observe(PAYMENT, answer(1, 5), 5)
    tracker.observe(PAYMENT, answer(2, 5), 5)
    tracker.observe(PAYMENT, answer(600, 5), 5)
    assert tracker.recorded_until([PAYMENT]) == {0: at(2)}
    tracker.observe(PAYMENT, answer(601, 9), 5)
    assert tracker.recorded_until([PAYMENT]) == {0: at(2)}
    assert not tracker.is_caught_up([PAYMENT])
    tracker.observe(PAYMENT, answer(602, 9), 9)
    assert tracker.recorded_until([PAYMENT]) == {0: at(600)}


def test_under_load_the_watermark_advances_though_the_end_is_never_reached() -> None:
    tracker = WatermarkTracker()
    for second in range(10):
        tracker.observe(PAYMENT, answer(second, 100 * second + 50), 100 * second)
    assert tracker.recorded_until([PAYMENT]) == {0: at(6)}


def test_the_topic_that_lags_most_sets_the_watermark_of_a_partition() -> None:
    tracker = WatermarkTracker()
    for topic_partition, seconds in ((PAYMENT, 10), (SHIPPING, 4), (ELSEWHERE, 7)):
        tracker.observe(topic_partition, answer(seconds, 5), 5)
        tracker.observe(topic_partition, answer(seconds + 1, 5), 5)
    assert tracker.recorded_until([PAYMENT, SHIPPING, ELSEWHERE]) == {0: at(4), 1: at(7)}
    assert tracker.recorded_until([PAYMENT, SHIPPING, ("ledger.events", 0), ELSEWHERE]) == {1: at(7)}
    assert tracker.recorded_until([("ledger.events", 0), PAYMENT]) == {}
