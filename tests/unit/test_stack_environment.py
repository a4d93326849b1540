"""What of the caller's environment reaches a stack: nothing that is meant for another program."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs  # type: ignore[import-untyped]
from supervisor.options import UnhosedConfigParser  # type: ignore[import-untyped]

from baraza.environment import remove_foreign
from chassis.http import gateway_accounts
from stack import InvalidSettings, from_environment, gateways, issuers, providers, services
from stack.environment import own_environment, require_private
from stack.errors import PermissionMissing
from stack.home import Home, State
from stack.kafka import written
from stack.rotation import rotate
from stack.supervision import variables

FOREIGN = {
    "PGSSLMODE": "require", "PGSERVICE": "x", "PGHOSTADDR": "10.0.0.1", "PYTHONPATH": "/tmp", "PYTHONSTARTUP": "x",
    "PSYCOPG_IMPL": "c",
    "JAVA_TOOL_OPTIONS": "-x", "_JAVA_OPTIONS": "-x", "JDK_JAVA_OPTIONS": "-x", "CLASSPATH": "/tmp",
    "KAFKA_OPTS": "-x", "GIT_DIR": "/tmp", "GIT_INDEX_FILE": "x", "LD_PRELOAD": "/tmp/x.so",
    "LC_ALL": "POSIX", "LANG": "de_DE",
}  # fmt: skip


def test_processes_of_a_stack_have_an_environment_of_our_own_making() -> None:
    made = own_environment({**FOREIGN, "PATH": "/bin", "HOME": "/elsewhere"})

    assert made == {"PATH": "/bin", "HOME": pwd.getpwuid(os.geteuid()).pw_dir, "LC_ALL": "C.UTF-8"}


def test_variables_for_libpq_python_and_java_are_removed_from_a_command() -> None:
    environ = {**FOREIGN, "PATH": "/bin", "HTTPS_PROXY": "p", "BARAZA_HOME": "h"}
    remove_foreign(environ)

    assert set(environ) == {"PATH", "HTTPS_PROXY", "BARAZA_HOME", "LC_ALL", "LANG"}


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_the_cache_is_in_the_accounts_home(home: str | None) -> None:
    settings = from_environment({} if home is None else {"HOME": home}, home=Path("/h"))

    assert settings.cache == Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "baraza"


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    require_private(tmp_path / "new")
    require_private(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionMissing, match="BARAZA_CACHE"):
        require_private(tmp_path)


def test_kafkas_properties_are_latin_1_with_every_other_letter_escaped() -> None:
    text = written({"log.dirs": "/h/é 100%/𝄞/a\\b"})

    assert text == "log.dirs=/h/\\u00e9 100%/\\ud834\\udd1e/a\\\\b\n"


@pytest.mark.parametrize("name", ["a,b", "a\\b", "a\nb", 'a"b', "a;b", "a\udce9", "a\u202eb"])
def test_a_folder_that_a_component_cannot_be_given_is_refused(name: str) -> None:
    with pytest.raises(InvalidSettings, match="choose another"):
        from_environment({"BARAZA_CACHE": "/c"}, home=Path("/h") / name)


def test_only_root_of_a_user_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is of a user, and another one, such as root under sudo, starts a stack in it."""
    home = Home(tmp_path / "home")
    home.prepare()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    for change in (home.prepare, lambda: home.locked().__enter__()):
        with pytest.raises(PermissionMissing, match=f"belongs to {pwd.getpwuid(owner).pw_name}; run this as that user"):
            change()
    assert not home.state_file.exists()


def test_a_new_home_is_not_made_under_sudo_in_a_folder_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.setenv("SUDO_UID", str(owner))
    with pytest.raises(PermissionMissing, match="without sudo"):
        Home(tmp_path / "new" / "home").prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_stack_that_sudo_left_is_refused_with_the_command_that_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "ho me")
    home.prepare()
    home.save(State())
    real = Path.stat
    found = home.state_file.stat()

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path != home.state_file:
            return real(path, **options)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:]))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(PermissionMissing, match=f"sudo chown -R {os.geteuid()} '.*ho me'"):
        home.prepare()


def test_a_rotation_of_the_webhooks_secret_keeps_the_one_before(tmp_path: Path) -> None:
    home, state = Home(tmp_path / "home"), State()
    home.prepare()
    first = home.password(services.WEBHOOK_SECRETS)
    rotate(home, state, services.WEBHOOK_SECRETS)
    second, before = home.password(services.WEBHOOK_SECRETS).split()
    assert before == first != second
    rotate(home, state, services.WEBHOOK_SECRETS)
    third, before = home.password(services.WEBHOOK_SECRETS).split()
    assert before == second != third


def test_only_the_courier_and_the_service_that_it_calls_back_have_the_webhooks_secret(tmp_path: Path) -> None:
    home, name = Home(tmp_path / "home"), "BARAZA_COURIER_WEBHOOK_SECRET_FILE"
    home.prepare()
    processes = (*providers.SIMULATORS, *services.workers())
    ports = {port: number for number, port in enumerate((*processes, "kafka", "postgres", "redis", "registry"), 1)}
    state = State(ports=ports)
    made = {process: services.environment(home, state, process, process) for process in processes}
    assert {process for process in processes if name in made[process]} == {providers.COURIER, "shipping"}
    assert made[providers.COURIER][name] == made["shipping"][name]
    url = made[providers.COURIER]["BARAZA_COURIER_WEBHOOK_URL"]
    assert url == f"{services.http_url(state, 'shipping')}/v1/callbacks/courier"


def test_merchants_gateways_share_keys_and_secrets_with_the_services_that_use_them_and_with_no_other(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    processes = (*providers.SIMULATORS, *services.workers())
    ports = {port: number for number, port in enumerate((*processes, "kafka", "postgres", "redis", "registry"), 1)}
    state = State(ports=ports)
    made = {process: services.environment(home, state, process, process) for process in processes}
    readers = {process for process in processes if "BARAZA_GATEWAY_ACCOUNTS_FILE" in made[process]}
    assert readers == {"merchant", "payment", "reconciliation"}
    ours = gateway_accounts.read(Path(made["payment"]["BARAZA_GATEWAY_ACCOUNTS_FILE"]))
    assert {(each.name, each.settlement_currency) for each in ours.accounts} == {
        ("stripe-live", "USD"), ("stripe-test", "USD"), ("adyen-live", "EUR"), ("adyen-test", "EUR"),
    }  # fmt: skip
    for gateway in ("stripe", "adyen"):
        file = Path(made[gateway]["BARAZA_SIMULATOR_ACCOUNTS"])
        theirs = {each["name"]: each for each in json.loads(file.read_text())["accounts"]}
        assert set(theirs) == {each.name for each in ours.accounts if each.gateway == gateway}
        for name, their in theirs.items():
            own = ours.account(name)
            assert own.api_key == Path(their["api_key_file"]).read_text().strip()
            assert list(own.webhook_secrets) == Path(their["webhook_secret_file"]).read_text().split()
            assert their["webhook_url"] == f"{services.http_url(state, 'payment')}/v1/callbacks/{name}"
            assert str(own.url).rstrip("/") == services.http_url(state, gateway)
    secrets = {each.api_key for each in ours.accounts} | {each.webhook_secrets for each in ours.accounts}
    assert len(secrets) == 2 * len(gateways.ACCOUNTS)
    kept = [home.password_file(name) for each in gateways.ACCOUNTS for name in (each.key, each.webhook_secrets)]
    assert {file.stat().st_mode & 0o777 for file in kept} == {0o600}


@pytest.mark.parametrize(
    ("currency", "gateway"),
    [("EUR", "adyen"), ("GBP", "adyen"), ("KES", "adyen"), ("BHD", "adyen"), ("CLP", "adyen"), ("USD", "stripe"),
     ("JPY", "stripe")],
)  # fmt: skip
def test_a_payment_in_any_currency_has_an_account_of_its_mode(currency: str, gateway: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    file = gateways.for_services(home, dict.fromkeys(("stripe", "adyen"), "http://127.0.0.1:1"))
    found = gateway_accounts.read(file)
    for is_live in (True, False):
        account = found.account_for("anybody", currency, is_live=is_live)
        assert account is not None
        assert (account.gateway, account.is_live) == (gateway, is_live)


def test_behind_toxiproxy_each_side_reaches_the_gateways_through_its_own_ports(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    names = (*providers.SIMULATORS, *services.workers(), "payment-2", "kafka", "postgres", "redis", "registry")
    ports = {name: number for number, name in enumerate(names, 1)}
    ports |= {f"proxy-a-{name}": 100 + number for number, name in enumerate(services.PROXIED)}
    ports |= {f"proxy-b-{name}": 200 + number for number, name in enumerate(services.PROXIED)}
    state = State(ports=ports, proxied=True)
    for name, side in (("payment", "a"), ("payment-2", "b")):
        file = Path(services.environment(home, state, "payment", name)["BARAZA_GATEWAY_ACCOUNTS_FILE"])
        urls = {each.gateway: each.url.port for each in gateway_accounts.read(file).accounts}
        assert urls == {gateway: ports[f"proxy-{side}-{gateway}"] for gateway in ("stripe", "adyen")}


@pytest.mark.parametrize("account", gateways.ACCOUNTS, ids=lambda account: account.name)
def test_a_rotation_of_a_gateways_webhook_secret_keeps_the_one_before(
    account: gateways.Account, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    gateways.ensure_keys(home)
    first = home.password(account.webhook_secrets)
    rotate(home, State(), account.webhook_secrets)
    second, before = home.password(account.webhook_secrets).split()
    assert before == first != second
    if account.gateway == "adyen":
        assert len(bytes.fromhex(second)) == gateways.HMAC_KEY_BYTES


@pytest.mark.parametrize(
    "value",
    ["plain", "", "100%, a=b", "it's here", issuers.variable(issuers.trusted("http://127.0.0.1:7003")), '{"a": "50%"}'],
)
def test_supervisord_reads_a_variable_as_it_is(value: str) -> None:
    parser = UnhosedConfigParser()
    parser.read_string(f"[program:x]\nenvironment = {variables({'FIRST': '1', 'GIVEN': value, 'LAST': '2'})}\n")
    read = dict_of_key_value_pairs(parser.get("program:x", "environment") % {})
    assert read == {"FIRST": "1", "GIVEN": value, "LAST": "2"}


@pytest.mark.parametrize("value", ['"it\'s"', "'a", 'a"', "a\\b", "a\nb", "a ;b", "a #b"])
def test_a_variable_that_supervisord_would_change_is_refused(value: str) -> None:
    with pytest.raises(InvalidSettings, match="GIVEN"):
        variables({"GIVEN": value})
