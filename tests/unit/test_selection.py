"""What a stack starts for the selected sagas, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from baraza.system.running import Running
from saga_tracker.definitions import DEFINITIONS
from stack import InvalidSettings, NotStarted, Stack, StackSettings, contract, plan, providers, selection
from stack.home import Home, State
from stack.providers import SIMULATORS

EVERY = selection.known()
SMALL = "manual_posting"
"""A saga of one service, which calls no provider."""


def settings(home: Path, **changes: object) -> StackSettings:
    return StackSettings(home=home, cache=home, **changes)  # type: ignore[arg-type]


def planned(home: Path, before: State | None, *, is_alive: bool = False, **changes: object) -> State:
    return plan.next_state(settings(home, **changes), before, is_alive=is_alive)


def participants(name: str) -> set[str]:
    return {service for each in DEFINITIONS.values() if each.name == name for service in each.participants}


def test_without_a_selection_everything_is_started(tmp_path: Path) -> None:
    state = planned(tmp_path, None)
    assert set(state.components) == set(plan.everything())
    assert state.components[: len(plan.INFRASTRUCTURE)] == list(plan.INFRASTRUCTURE)


@pytest.mark.parametrize("name", EVERY)
def test_a_saga_has_its_services_checkout_and_the_tracker(name: str, tmp_path: Path) -> None:
    state = planned(tmp_path, None, sagas=(name,))
    services = set(state.components) & set(contract.services())
    assert services == participants(name) | set(contract.starters())
    assert {contract.TRACKER, contract.TRACKER_API, *plan.INFRASTRUCTURE} <= set(state.components)


def test_a_simulator_is_started_with_the_service_that_calls_it() -> None:
    assert {name: providers.callers(name) for name in providers.PROVIDERS} == {
        "gateway": ("payment",), "courier": ("shipping",),
        "stripe": ("payment", "reconciliation"), "adyen": ("payment", "reconciliation"),
        "daraja": ("mobile-money",), "momo": ("mobile-money",),
    }  # fmt: skip
    small, large = selection.components((SMALL,)), selection.components(EVERY)
    assert set(SIMULATORS) & set(small) == {"issuer"}
    assert set(SIMULATORS) <= set(large)


def test_a_saga_whose_service_is_not_installed_is_none_of_the_default() -> None:
    def installed(service: str) -> bool:
        return service != "shipping"

    found = selection.selected((), installed)
    assert found == tuple(name for name in EVERY if "shipping" not in participants(name))
    assert SMALL in found
    assert {"shipping", "courier"}.isdisjoint(selection.components((), installed))
    with pytest.raises(InvalidSettings, match="order needs shipping, which is not installed"):
        selection.check(("order",), installed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("payouts", "There is no saga 'payouts'; known: order, .*manual_posting"),
        ("", "There is no saga ''; known: order"),
        ("order,", "There is no saga ''"),
        ("order,all", "There is no saga 'all'.*all alone"),
        ("order, order", "selected twice"),
    ],
)
def test_a_wrong_selection_is_refused_with_what_is_known(text: str, why: str) -> None:
    with pytest.raises(InvalidSettings, match=why):
        selection.read(text)


def test_a_selection_is_read_as_it_is_written() -> None:
    assert selection.read("manual_posting, order") == ("manual_posting", "order")
    assert selection.read("all") == ()


def test_a_home_keeps_its_selection_until_another_one(tmp_path: Path) -> None:
    first = planned(tmp_path, None, sagas=(SMALL,))
    again = planned(tmp_path, first, is_alive=True)
    assert (again.sagas, again.components) == (first.sagas, first.components)
    more = planned(tmp_path, again, is_alive=True, sagas=("order",))
    assert set(first.components) < set(more.components)
    fewer = planned(tmp_path, more, is_alive=True, sagas=(SMALL,))
    assert fewer.components == first.components
    assert set(planned(tmp_path, fewer, sagas=()).components) == set(plan.everything())


def test_a_selection_changes_no_address(tmp_path: Path) -> None:
    first = planned(tmp_path, None, sagas=(SMALL,))
    assert planned(tmp_path, first, is_alive=True, sagas=EVERY).ports == first.ports


def test_a_home_whose_saga_is_gone_says_which_there_are(tmp_path: Path) -> None:
    before = replace(planned(tmp_path, None), sagas=["of_another_release"])
    with pytest.raises(InvalidSettings, match="no saga 'of_another_release'; known: order"):
        planned(tmp_path, before)


def stack_of(home: Path, sagas: tuple[str, ...] = ()) -> Stack:
    folder = Home(home)
    folder.prepare()
    return Stack(folder, planned(home, None, sagas=sagas))


def test_what_is_not_started_is_named_with_how_to_start_it(tmp_path: Path) -> None:
    endpoints = stack_of(tmp_path, sagas=(SMALL,)).endpoints
    assert endpoints.url("ledger") == endpoints.http["ledger"][0]
    for name in ("payment", "gateway"):
        assert name not in endpoints.http
        with pytest.raises(NotStarted) as refused:
            endpoints.url(name)
        assert str(refused.value) == (
            f"{name} is not started: the stack runs {SMALL}. Start it with: ./baraza up --sagas {SMALL},order"
        )


def test_a_service_that_is_not_started_is_not_restored(tmp_path: Path) -> None:
    small = stack_of(tmp_path, sagas=(SMALL,))
    for change in (
        lambda: small.restore("payment", tmp_path / "payment.dump"),
        lambda: small.reconcile("payment", datetime(2026, 1, 1, tzinfo=UTC)),
    ):
        with pytest.raises(NotStarted, match="payment is not started"):
            change()


def test_with_everything_started_nothing_is_absent(tmp_path: Path) -> None:
    endpoints = stack_of(tmp_path).endpoints
    assert endpoints.absent == {}
    assert set(endpoints.http) == set(plan.everything()) - set(plan.INFRASTRUCTURE)


def test_an_order_is_refused_where_a_service_of_its_saga_would_be_missing(tmp_path: Path) -> None:
    small = Running(stack=stack_of(tmp_path, sagas=(SMALL,)))
    assert not small.is_started("payment")
    small.require(SMALL)
    with pytest.raises(NotStarted, match="payment is not started"):
        small.require("order")
    Running(stack=stack_of(tmp_path, sagas=("return_order",))).require("order")


@pytest.mark.parametrize("sagas", [[], ["order"]])
def test_a_home_of_any_release_is_read(sagas: list[str], tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.save(replace(planned(tmp_path, None), sagas=sagas))
    if not sagas:
        home.state_file.write_text(home.state_file.read_text().replace('  "sagas": [],\n', ""))
    assert home.load().sagas == sagas
