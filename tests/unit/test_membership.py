"""A process that never rejoins its group must end; one without Kafka, or without partitions, must not."""

import pytest

from chassis.process.membership import CHECK_EVERY_S, JOIN_WITHIN_S, SPREAD_S, Membership, NeverJoined


class Kafka:
    """Kafka as the watch queries it, and the time that passes."""

    answers = True
    now = 0.0

    def membership(self) -> Membership:
        return Membership(lambda: self.answers, lambda: self.now)

    def pass_time(self, membership: Membership, seconds: float) -> None:
        """Let the worker loop for so long."""
        until = self.now + seconds
        while self.now < until:
            self.now += CHECK_EVERY_S
            membership.watch()


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


def test_a_process_ends_when_kafka_answers_but_assigns_nothing(kafka: Kafka) -> None:
    membership = kafka.membership()
    membership.assigned()
    kafka.pass_time(membership, 1_000.0)
    membership.revoked()
    kafka.pass_time(membership, JOIN_WITHIN_S - CHECK_EVERY_S)
    with pytest.raises(NeverJoined):
        kafka.pass_time(membership, SPREAD_S + 2 * CHECK_EVERY_S)


def test_after_an_outage_of_kafka_the_whole_time_starts_again(kafka: Kafka) -> None:
    membership = kafka.membership()
    kafka.answers = False
    kafka.pass_time(membership, 1_000.0)
    kafka.answers = True
    kafka.pass_time(membership, JOIN_WITHIN_S - CHECK_EVERY_S)
    membership.assigned()
    kafka.pass_time(membership, 1_000.0)
