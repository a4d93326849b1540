"""Up to when everything is recorded: never later than is certain, whatever Kafka has told and whenever it was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from saga_tracker.ingest.watermarks import End, WatermarkTracker

PAYMENT, SHIPPING, ELSEWHERE = ("payment.events", 0), ("shipping.events", 0), ("payment.events", 1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def told(seconds: float, offset: int) -> End:
    return End(offset=offset, told_at=at(seconds))


def test_one_answer_says_nothing_for_it_may_be_as_old_as_its_question() -> None:
    reach = WatermarkTracker()
    reach.look(PAYMENT, None, 5)
    reach.look(PAYMENT, told(1, 5), 5)
    assert reach.until([PAYMENT]) == {}
    assert not reach.is_met([PAYMENT])


def test_an_end_that_is_recorded_holds_for_the_time_of_the_answer_before() -> None:
    reach = WatermarkTracker()
    reach.look(PAYMENT, told(1, 5), 5)
    reach.look(PAYMENT, told(2, 5), 5)
    assert reach.until([PAYMENT]) == {0: at(1)}
    assert reach.is_met([PAYMENT])


def test_a_kafka_that_is_silent_holds_the_reach_where_it_was() -> None:
    reach = WatermarkTracker()
    for seconds in (1, 2, 2, 2):
        reach.look(PAYMENT, told(seconds, 5), 5)
    assert reach.until([PAYMENT]) == {0: at(1)}


def test_an_answer_that_lay_unread_while_the_process_stood_still_proves_nothing_about_that_time() -> None:
    reach = WatermarkTracker()
    reach.look(PAYMENT, told(1, 5), 5)
    reach.look(PAYMENT, told(2, 5), 5)
    reach.look(PAYMENT, told(600, 5), 5)
    assert reach.until([PAYMENT]) == {0: at(2)}
    reach.look(PAYMENT, told(601, 9), 5)
    assert reach.until([PAYMENT]) == {0: at(2)}
    assert not reach.is_met([PAYMENT])
    reach.look(PAYMENT, told(602, 9), 9)
    assert reach.until([PAYMENT]) == {0: at(600)}


def test_under_load_the_reach_goes_on_though_the_end_is_never_met() -> None:
    reach = WatermarkTracker()
    for second in range(10):
        reach.look(PAYMENT, told(second, 100 * second + 50), 100 * second)
    assert reach.until([PAYMENT]) == {0: at(6)}


def test_a_partition_is_recorded_as_far_as_the_topic_that_lags_most() -> None:
    reach = WatermarkTracker()
    for place, seconds in ((PAYMENT, 10), (SHIPPING, 4), (ELSEWHERE, 7)):
        reach.look(place, told(seconds, 5), 5)
        reach.look(place, told(seconds + 1, 5), 5)
    assert reach.until([PAYMENT, SHIPPING, ELSEWHERE]) == {0: at(4), 1: at(7)}
    assert reach.until([PAYMENT, SHIPPING, ("ledger.events", 0), ELSEWHERE]) == {1: at(7)}
    assert reach.until([("ledger.events", 0), PAYMENT]) == {}
