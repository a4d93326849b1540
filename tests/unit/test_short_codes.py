"""Short codes at providers of mobile money: the file that our service reads, and those of the simulated providers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobile_money import short_codes
from mobile_money.short_codes import InvalidShortCodes
from simulators import short_codes as simulated
from stack import providers, services
from stack.home import Home, State
from stack.rotation import rotate
from stack.short_codes import CALLBACK, SHORT_CODES


@pytest.fixture
def made(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The variables of every process of a stack."""
    home = Home(tmp_path / "home")
    home.prepare()
    processes = (*providers.SIMULATORS, *services.workers())
    ports = {port: number for number, port in enumerate((*processes, "kafka", "postgres", "redis", "registry"), 1)}
    state = State(ports=ports)
    return {process: services.environment(home, state, process, process) for process in processes}


def test_the_service_that_pays_phones_and_the_providers_share_keys_and_no_other_process_has_them(
    made: dict[str, dict[str, str]],
) -> None:
    assert {process for process, own in made.items() if "BARAZA_SHORT_CODES_FILE" in own} == {"mobile-money"}
    assert {process for process, own in made.items() if "BARAZA_PHONE_KEY_FILE" in own} == {"members", "mobile-money"}
    ours = short_codes.read(Path(made["mobile-money"]["BARAZA_SHORT_CODES_FILE"])).short_codes
    assert [each.provider for each in ours] == list(providers.MOBILE_MONEY)
    for own in ours:
        (their,) = simulated.read(Path(made[own.provider]["BARAZA_SIMULATOR_SHORT_CODES"])).short_codes
        assert (their.short_code, their.key) == (own.short_code, own.key_file.read_text().strip())
        assert their.secret == own.secret_file.read_text().strip()
        assert str(own.callback_url).endswith(f"/v1/callbacks/{own.name}")
        assert len(own.callback_secrets) == 1


def test_a_rotation_of_a_callbacks_secret_keeps_the_one_before(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    name = SHORT_CODES[0].secret(CALLBACK)
    first = home.password(name)
    rotate(home, State(), name)
    second, before = home.password(name).split()
    assert before == first != second


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"passkey_file": None}, "lacks passkey_file"),
        ({"provider": "momo"}, "only one at daraja has"),
        ({"provider": "other"}, "provider"),
        ({"short_code": "12"}, "short_code"),
        ({"members_share": 1.5}, "members_share"),
        ({"more": 1}, "more"),
    ],
    ids=lambda value: str(value),
)
def test_a_flaw_is_named_with_its_field(
    made: dict[str, dict[str, str]], change: dict[str, object], named: str, tmp_path: Path
) -> None:
    listed = json.loads(Path(made["mobile-money"]["BARAZA_SHORT_CODES_FILE"]).read_text())["short_codes"]
    file = tmp_path / "short-codes.json"
    file.write_text(json.dumps({"short_codes": [listed[0] | change]}))
    with pytest.raises(InvalidShortCodes, match=named):
        short_codes.read(file)


def test_one_short_code_is_listed_once(made: dict[str, dict[str, str]], tmp_path: Path) -> None:
    listed = json.loads(Path(made["mobile-money"]["BARAZA_SHORT_CODES_FILE"]).read_text())["short_codes"]
    file = tmp_path / "short-codes.json"
    file.write_text(json.dumps({"short_codes": [listed[0], listed[0]]}))
    with pytest.raises(InvalidShortCodes, match="listed twice"):
        short_codes.read(file)


def test_an_unknown_short_code_is_answered_with_those_that_are_known(made: dict[str, dict[str, str]]) -> None:
    known = short_codes.read(Path(made["mobile-money"]["BARAZA_SHORT_CODES_FILE"]))
    assert known.named(SHORT_CODES[0].digits).provider == providers.DARAJA
    with pytest.raises(LookupError, match=SHORT_CODES[0].digits):
        known.named("1")
