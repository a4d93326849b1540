"""A process that never joins its group again must end; one whose Kafka is away, or whose share is none, must not."""

import pytest
from messaging.membership import JOIN_WITHIN_S, Membership, NeverJoined


class Kafka:
    """What the watch asks, and the time that passes meanwhile."""

    answers = True
    now = 0.0

    def membership(self) -> Membership:
        return Membership(lambda: self.answers, lambda: self.now)


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


def test_ends_where_kafka_answers_but_assigns_nothing(kafka: Kafka) -> None:
    membership = kafka.membership()
    membership.assigned()
    kafka.now = 1_000.0
    membership.watch()
    membership.revoked()
    kafka.now += JOIN_WITHIN_S - 0.1
    membership.watch()
    kafka.now += 0.1
    with pytest.raises(NeverJoined):
        membership.watch()


def test_waits_for_a_kafka_that_is_away_and_gives_it_the_whole_time_again(kafka: Kafka) -> None:
    membership = kafka.membership()
    kafka.answers = False
    for _ in range(20):
        kafka.now += JOIN_WITHIN_S
        membership.watch()
    kafka.answers = True
    kafka.now += JOIN_WITHIN_S - 0.1
    membership.watch()
    membership.assigned()
    kafka.now += JOIN_WITHIN_S
    membership.watch()
