"""How the console shows values: the sentence about a saga, durations, amounts, what is hidden."""

from __future__ import annotations

from typing import Any

import pytest

from console import rights, showing
from console.rights import Rights
from console.settings import ConsoleSettings
from console.web import local_target

SAGA: dict[str, Any] = {
    "state": "PENDING", "phase": "RUNNING", "step": "book_shipment", "cause": None, "reason": None,
    "started_at": "2026-11-21T10:41:07+00:00", "updated_at": "2026-11-21T10:41:08+00:00", "finished_at": None,
    "deadline_at": "2026-11-21T10:41:27+00:00", "parked_at": None, "awaits_since": None, "contradicted_at": None,
}  # fmt: skip
STEPS = [{"name": "book_shipment", "service": "shipping"}]
AT = '<time datetime="2026-11-21T10:41:27.000Z">2026-11-21 10:41:27 UTC</time>'


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, f"It waits for book_shipment in shipping until {AT}; then it is stopped and undone."),
        ({"deadline_at": None}, "It waits for book_shipment in shipping."),
        (
            {"phase": "FENCING", "cause": "CANCELLED", "reason": "ann: changed her mind"},
            "It is being stopped, because it was cancelled (ann: changed her mind). It waits for every service to "
            f"confirm that no step runs until {AT}.",
        ),
        (
            {"phase": "COMPENSATING", "cause": "REJECTED", "reason": "card_declined"},
            f"It is being undone, because a step was refused (card_declined). It waits for the undo of book_shipment "
            f"until {AT}.",
        ),
        (
            {"state": "CONFIRMED", "phase": "ENDED", "finished_at": "2026-11-21T10:42:37+00:00"},
            "Every step ran. It took 1 min 30 s.",
        ),
        (
            {
                "state": "CANCELLED_COMPENSATED",
                "cause": "TIMED_OUT",
                "reason": "late",
                "finished_at": "2026-11-21T10:41:08+00:00",
            },
            "It ended after 1.000 s: a step did not answer in time (late). What had run was undone.",
        ),
        (
            {"state": "NEEDS_REVIEW", "parked_at": "2026-11-21T10:41:27+00:00", "reason": "<b>500</b>."},
            f"It is parked at book_shipment since {AT} and waits for a person: &lt;b&gt;500&lt;/b&gt;.",
        ),
        (
            {"awaits_since": "2026-11-21T10:41:27+00:00", "deadline_at": None},
            f"It waits for the outcome of book_shipment, which comes later; open since {AT}.",
        ),
    ],
)
def test_a_sentence_says_what_a_saga_waits_for_and_until_when(changes: dict[str, Any], sentence: str) -> None:
    assert str(showing.sentence({**SAGA, **changes}, STEPS)) == sentence


def test_every_state_and_outcome_of_the_tracker_has_words() -> None:
    from saga_tracker.model.decision import SagaState
    from saga_tracker.model.operating import StepOutcome

    assert set(showing.STATES) == {state.value for state in SagaState}
    assert set(showing.OUTCOMES) == {outcome.value for outcome in StepOutcome}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.000 s"), (3.5791, "3.579 s"), (59, "59 s"), (61, "1 min 1 s"), (7_200, "2 h"), (93_600, "1 d 2 h")],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert showing.lasting(seconds) == text


def test_whom_a_saga_is_about_cannot_be_read_from_what_is_shown() -> None:
    assert showing.masked("customer-48211") == "cu•••11"
    assert showing.masked("ann") == "•••"
    assert showing.masked(None) == "–"


def test_an_amount_has_the_decimals_of_its_currency() -> None:
    assert showing.money(374_200, "KES") == "KES 3,742.00"
    assert showing.money(1_500, "JPY") == "JPY 1,500"
    assert showing.money(None, "KES") == "–"


def test_a_deployment_changes_the_roles_of_a_right_it_names() -> None:
    text = "cancel=operator money=finance,support"
    settings = ConsoleSettings.model_construct(console_roles=text, console_apis="ledger=http://ledger:8080")
    table = rights.table(settings.roles)
    support = Rights(frozenset({"support"}), table)
    assert not support.has(rights.CANCEL)
    assert support.has(rights.MONEY)
    assert support.why_not(rights.CANCEL) == "Your roles are support; this needs operator."
    assert settings.apis == {"ledger": "http://ledger:8080"}
    with pytest.raises(ValueError, match="no right fly"):
        rights.table({"fly": ("operator",)})


@pytest.mark.parametrize("target", ["/", "/sagas?state=PENDING&type=order", "/sagas/01M7#e1014"])
def test_an_address_within_the_console_is_kept(target: str) -> None:
    assert local_target(target) == target
