"""Any other ITSM by signed messages: what is sent, and what of the answers is believed."""

from __future__ import annotations

import json

import pytest

from support.alertmanagers import alert, report
from support.receivers import Reply
from support.ticketing import Receiving

ENDED = report(alert(status="resolved"))


def test_an_alarm_has_one_ticket_from_its_begin_to_its_end(receiving_system: Receiving) -> None:
    for _ in range(3):
        assert receiving_system.taken(report(alert())) == "updated"
    ((correlation_id, ticket),) = receiving_system.system.tickets.items()
    assert (ticket["number"], ticket["is_open"]) == ("OPS-1", True)
    assert ticket["title"] == "SagasParked: 3 sagas are parked."
    assert ticket["console"].startswith(f"{receiving_system.console.url}/sagas?type=order")
    assert receiving_system.taken(ENDED) == "resolved"
    assert not receiving_system.system.tickets[correlation_id]["is_open"]
    assert len(receiving_system.system.tickets) == 1


def test_every_message_is_signed_and_a_report_that_comes_again_has_the_same_id(receiving_system: Receiving) -> None:
    for reported in (report(alert()), report(alert()), report(alert(summary="4 are parked.")), ENDED):
        receiving_system.taken(reported)
    requests = receiving_system.receiver.requests
    assert all(each.verify(receiving_system.secret) == each.content for each in requests)
    first, again, changed, ended = (each.id for each in requests)
    assert first == again
    assert len({first, changed, ended}) == 3
    assert [each.content["type"] for each in requests] == ["alarm.firing"] * 3 + ["alarm.resolved"]


def test_a_lost_answer_is_sent_again_at_once(receiving_system: Receiving) -> None:
    take = receiving_system.system.take

    def lose(received: object) -> Reply:
        take(receiving_system.receiver.requests[-1])
        return Reply(status=0)

    receiving_system.receiver.reply = lose
    assert receiving_system.send(report(alert())).status_code == 503
    receiving_system.receiver.reply = take
    assert receiving_system.taken(report(alert())) == "updated"
    assert len(receiving_system.system.tickets) == 1


def test_while_the_receiver_is_away_alertmanager_is_sent_back(receiving_system: Receiving) -> None:
    receiving_system.system.is_away = True
    answer = receiving_system.send(report(alert()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    receiving_system.system.is_away = False
    assert receiving_system.taken(report(alert())) == "updated"


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (b"", None),
        (b"no JSON", None),
        (b"[1]", None),
        (b'{"number": 7}', None),
        (b'{"number": "OPS-9", "url": "javascript:alert(1)"}', "OPS-9"),
        (b'{"number": "' + b"9" * 900 + b'"}', "9" * 64),
    ],
)
def test_of_an_answer_only_a_number_and_a_link_are_believed(
    receiving_system: Receiving, answer: bytes, number: str | None
) -> None:
    receiving_system.receiver.reply = lambda _: Reply(status=200, body=answer)
    shown = receiving_system.send(report(alert())).json()["ticket"]
    assert shown == number or (number is None and shown.startswith("baraza-"))
    (stored,) = receiving_system.console.redis.hvals("console:tickets")
    assert json.loads(stored)["url"] == ""
