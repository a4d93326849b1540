"""Our own processes, and the environment variables of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.wire.kafka import KafkaLogin
from stack import gateways, issuers, kafka, observers, postgres, redis, registry, short_codes, toxiproxy
from stack.components import Component, responds
from stack.contract import (
    CONSOLE,
    TRACKER,
    TRACKER_API,
    account_readers,
    owner_of,
    package_of,
    phone_keepers,
    redis_keys,
    services,
    starters,
    token_issuer,
    webhook_sender,
)
from stack.home import Home, State
from stack.ports import LOOPBACK
from stack.providers import (
    ACCOUNT_HOLDERS,
    COURIER,
    GATEWAY,
    ISSUER,
    MOBILE_MONEY,
    PROVIDERS,
    SIMULATORS,
    called_back_by,
    payers,
)

PROXIED = (kafka.NAME, postgres.NAME, redis.NAME, registry.NAME, *PROVIDERS)
"""What our processes reach through toxiproxy where there is one. The issuer's keys are fetched once and cached."""
WEBHOOK_PATH = "/v1/callbacks/courier"
WEBHOOK_SECRETS = "courier-webhook"
"""The file in the home with the secrets that sign the courier's webhooks, the newest first. Only those two read it."""
PAYER_KEY, MERCHANT_TOKEN_KEY = "payer-key", "merchant-token-key"
"""The files in the home with the key that hashes merchants' payers, and with the one that signs their short tokens."""
WEBHOOK_KEY = "webhook-key"
"""The file in the home with the key that encrypts the secrets of merchants' endpoints."""
CONSOLE_KEY, CONSOLE_CLIENT = "console-key", "console-client"
"""The files in the home with the key that encrypts the console's sessions, and with its secret at the issuer."""
TICKETS_LOGIN, TICKETS_ALERTMANAGER = "tickets-login", "tickets-alertmanager"
"""The files with the console's login at an ITSM, and with what Alertmanager presents; only where tickets are opened."""
PHONE_KEY = "phone-key"
"""The file in the home with the key that hashes the phones of members and payers."""
COURIER_DAY_S = 2
"""A courier's day on one machine: a parcel that comes back takes two of them."""
STEPS_NICENESS = 10
"""The tracker reads what all of them write, and people wait for checkout: both would lag on busy processors. Services
with steps only collect larger batches meanwhile, which cost less."""
REQUESTS_PER_S = "BARAZA_GATEWAY_REQUESTS_PER_S"
"""The setting, for every process, of how many calls a second an account at a gateway has."""
CALLS_PER_S = "BARAZA_MOBILE_MONEY_CALLS_PER_S"
"""The setting, for every process, of how many calls a second a short code has."""
EVERY = "*"
"""The key of ``environment`` settings for every process of ours."""


def workers() -> tuple[str, ...]:
    """Return the processes that take part in sagas, in the order of their listing: each has a login at Kafka."""
    return (*services(), TRACKER, TRACKER_API)


def processes() -> tuple[str, ...]:
    """Return all processes of ours, in the order of their listing: those of sagas, and the console."""
    return (*workers(), CONSOLE)


def database_of(process: str) -> str:
    """Return the database of a process's service; the tracker's two processes share one."""
    return package_of(TRACKER if process == TRACKER_API else process)


def replica_names(service: str, count: int) -> tuple[str, ...]:
    """Return the names of a service's processes: ``payment``, ``payment-2``, …"""
    return (service, *(f"{service}-{number}" for number in range(2, count + 1)))


def component(home: Home, state: State, service: str, name: str) -> Component:
    """Return one process of a service or of a simulator."""
    url = http_url(state, name)
    return Component(
        name=name,
        service=service,
        command=(sys.executable, "-P", "-m", _module_of(state, service)),
        environment=environment(home, state, service, name),
        niceness=STEPS_NICENESS if service in set(services()) - set(starters()) else 0,
        is_ready=partial(responds, f"{url}/readyz"),
        address=url,
    )


def _module_of(state: State, service: str) -> str:
    if service in SIMULATORS:
        return f"simulators.{service}"
    if substitute := state.substitutes.get(service):
        return f"{substitute}.main"
    return "saga_tracker.api_main" if service == TRACKER_API else f"{package_of(service)}.main"


def environment(home: Home, state: State, service: str, name: str) -> dict[str, str]:
    """Return the ``BARAZA_*`` variables of a process, with those that the settings add."""
    variables = {"BARAZA_HTTP_HOST": LOOPBACK, "BARAZA_HTTP_PORT": str(state.ports[name])}
    if service in SIMULATORS:
        variables |= _simulator(home, state, service)
    elif service == CONSOLE:
        variables |= _console(home, state, service)
    else:
        variables |= _worker(home, state, service, _ports_for(state, service, name))
        if state.observed:
            variables["BARAZA_ZIPKIN_URL"] = observers.traces_url(state.ports)
    for key in dict.fromkeys((EVERY, service, name)):
        variables |= state.environment.get(key, {})
    return variables


def migrated_packages(state: State, database: str) -> tuple[str, ...]:
    """Return the packages whose migrations a database has, in order: its service's own, then a substitute's."""
    substitutes = (package for service, package in state.substitutes.items() if database_of(service) == database)
    return (database, *substitutes)


def migration_environment(home: Home, state: State, database: str) -> dict[str, str]:
    """Return the variables of a migration, with the login of the database's owner."""
    return {
        **_worker(home, state, database.replace("_", "-"), state.ports),
        "BARAZA_DATABASE_URL": _database_url(state.ports, database, owner_of(database)),
        "BARAZA_DATABASE_PASSWORD_FILE": str(home.password_file(owner_of(database))),
    }


def scraped(state: State) -> dict[str, dict[str, int]]:
    """Return the ports of every process with metrics, by service and process."""
    ours = [service for service in state.components if service in processes()]
    return {
        service: {name: state.ports[name] for name in replica_names(service, state.replicas.get(service, 1))}
        for service in ours
    }


def kafka_environment(login: KafkaLogin) -> dict[str, str]:
    """Return the variables of a process's login to Kafka."""
    variables = {
        "BARAZA_KAFKA": login.address,
        "BARAZA_KAFKA_USER": login.user,
        "BARAZA_KAFKA_PASSWORD_FILE": str(login.password_file),
    }
    return variables if login.ca_file is None else {**variables, "BARAZA_KAFKA_CA_FILE": str(login.ca_file)}


def _console(home: Home, state: State, service: str) -> dict[str, str]:
    """Return the variables of the console: its database, sessions in Redis, the issuer, the APIs of what is started."""
    home.password(CONSOLE_KEY)
    return {
        "BARAZA_SERVICE": service,
        **_database(state.ports, home, service),
        "BARAZA_REDIS_URL": f"redis://{LOOPBACK}:{state.ports[redis.NAME]}/0",
        **_redis_login(home, service),
        **_console_client(home, state),
        "BARAZA_CONSOLE_KEY_FILE": str(home.password_file(CONSOLE_KEY)),
        "BARAZA_CONSOLE_APIS": " ".join(
            f"{name}={http_url(state, name)}" for name in state.components if name in workers()
        ),
        **_issuers(home, http_url(state, ISSUER)),
    }


def _console_client(home: Home, state: State) -> dict[str, str]:
    """Return the variables of what the issuer and the console share: its address, and its secret."""
    home.password(CONSOLE_CLIENT)
    return {
        "BARAZA_CONSOLE_URL": http_url(state, CONSOLE),
        "BARAZA_CONSOLE_CLIENT_SECRET_FILE": str(home.password_file(CONSOLE_CLIENT)),
    }


def _issuers(home: Home, issuer: str) -> dict[str, str]:
    """Return the variables of the issuers: the staff's by itself, at which people sign in, and all as they count."""
    sealed = issuers.sealed(home.path / issuers.BREAK_GLASS_FILE)
    return {
        "BARAZA_JWKS_URL": issuers.keys_of(issuer),
        "BARAZA_ISSUER": issuer,
        "BARAZA_AUDIENCE": issuers.AUDIENCE,
        "BARAZA_ISSUERS": issuers.variable((*issuers.trusted(issuer), *sealed)),
    }


def _redis_login(home: Home, service: str) -> dict[str, str]:
    if service not in redis_keys():
        return {}
    return {
        "BARAZA_REDIS_USER": service,
        "BARAZA_REDIS_PASSWORD_FILE": str(home.password_file(redis.secret_of(service))),
    }


def http_url(state: State, name: str) -> str:
    """Return the base address of a process's HTTP API."""
    return f"http://{LOOPBACK}:{state.ports[name]}"


def _ports_for(state: State, service: str, name: str) -> Mapping[str, int]:
    """Return the ports of a process's dependencies: the real ones, or those of its side of the proxy."""
    if not state.proxied:
        return state.ports
    side = toxiproxy.side_of(int(name.removeprefix(service).removeprefix("-") or 1))
    return state.ports | {target: state.ports[toxiproxy.port_name(side, target)] for target in PROXIED}


def _worker(home: Home, state: State, service: str, ports: Mapping[str, int]) -> Mapping[str, str]:
    return {
        "BARAZA_SERVICE": TRACKER if service == TRACKER_API else service,
        **kafka_environment(kafka.login(home, ports[kafka.NAME], service, tls=state.tls)),
        "BARAZA_REGISTRY_URL": registry.url(ports[registry.NAME]),
        **_database(ports, home, service),
        "BARAZA_REDIS_URL": f"redis://{LOOPBACK}:{ports[redis.NAME]}/0",
        **_redis_login(home, service),
        **(_webhook_secrets(home) if service in called_back_by(COURIER) else {}),
        **(_gateway_accounts(home, state, ports) if service in account_readers() else {}),
        **(_short_codes(home, state, ports, service) if service in payers() else {}),
        **(_phone_key(home) if service in (*payers(), *phone_keepers()) else {}),
        **_merchant_keys(home, state, service),
        **(_webhook_key(home) if service == webhook_sender() else {}),
        "BARAZA_GATEWAY_URL": f"http://{LOOPBACK}:{ports[GATEWAY]}",
        "BARAZA_COURIER_URL": f"http://{LOOPBACK}:{ports[COURIER]}",
        **_issuers(home, http_url(state, ISSUER)),
        "BARAZA_LAKE_URL": str(lake_folder(home)),
    }


def lake_folder(home: Home) -> Path:
    """Return the folder of raw feeds and of Parquet files."""
    return home.folder("lake")


def _simulator(home: Home, state: State, service: str) -> Mapping[str, str]:
    folder = simulator_folder(home)
    if service == ISSUER:
        keys = str(folder / "issuer-keys")
        own = {
            "BARAZA_ISSUER": http_url(state, ISSUER),
            "BARAZA_AUDIENCE": issuers.AUDIENCE,
            "BARAZA_ISSUER_KEYS": keys,
        }
        return own | (_console_client(home, state) if CONSOLE in state.ports else {})
    variables = {"BARAZA_SIMULATOR_RECORDS": str(folder / f"{service}.sqlite")}
    # A provider whose outcomes come later calls back the service that awaits them.
    called = next((http_url(state, each) for each in called_back_by(service)), None)
    if service == COURIER:
        variables |= {**_webhook_secrets(home), "BARAZA_COURIER_DAY_S": str(COURIER_DAY_S)}
        if called is not None:
            variables["BARAZA_COURIER_WEBHOOK_URL"] = f"{called}{WEBHOOK_PATH}"
    if service in ACCOUNT_HOLDERS:
        gateways.ensure_keys(home)
        variables["BARAZA_SIMULATOR_ACCOUNTS"] = str(
            gateways.for_simulator(home, service, called, requests_per_s=_number(state, REQUESTS_PER_S))
        )
    if service in MOBILE_MONEY:
        short_codes.ensure_secrets(home)
        file = short_codes.for_simulator(home, service, calls_per_s=_number(state, CALLS_PER_S))
        variables["BARAZA_SIMULATOR_SHORT_CODES"] = str(file)
    return variables


def _short_codes(home: Home, state: State, ports: Mapping[str, int], service: str) -> dict[str, str]:
    """Return the variable with the file of our short codes, which is written anew where it has changed."""
    short_codes.ensure_secrets(home)
    urls = {provider: f"http://{LOOPBACK}:{ports[provider]}" for provider in MOBILE_MONEY}
    file = short_codes.for_service(
        home, urls, http_url(state, service), side=_side(state, ports), calls_per_s=_number(state, CALLS_PER_S)
    )
    return {"BARAZA_SHORT_CODES_FILE": str(file)}


def _phone_key(home: Home) -> dict[str, str]:
    """Return the variable with the key that hashes phones; the file is made where it is missing."""
    home.password(PHONE_KEY)
    return {"BARAZA_PHONE_KEY_FILE": str(home.password_file(PHONE_KEY))}


def _gateway_accounts(home: Home, state: State, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variable with the file of the accounts at gateways, which is written anew where it has changed."""
    gateways.ensure_keys(home)
    urls = {gateway: f"http://{LOOPBACK}:{ports[gateway]}" for gateway in ACCOUNT_HOLDERS}
    side, requests_per_s = _side(state, ports), _number(state, REQUESTS_PER_S)
    file = gateways.for_services(home, urls, side=side, requests_per_s=requests_per_s)
    return {"BARAZA_GATEWAY_ACCOUNTS_FILE": str(file)}


def _side(state: State, ports: Mapping[str, int]) -> str:
    """Return the side of the proxy whose ports these are; empty without one."""
    sides = (side for side in toxiproxy.SIDES if ports[GATEWAY] == state.ports.get(toxiproxy.port_name(side, GATEWAY)))
    return next(sides, "")


def _number(state: State, setting: str) -> float | None:
    """Return a setting of every process, which both sides of a provider have; None where it is not set."""
    text = state.environment.get(EVERY, {}).get(setting)
    return None if text is None else float(text)


def _webhook_secrets(home: Home) -> dict[str, str]:
    """Return the variable with the secrets' file, which is made where it is missing."""
    home.password(WEBHOOK_SECRETS)
    return {"BARAZA_COURIER_WEBHOOK_SECRET_FILE": str(home.password_file(WEBHOOK_SECRETS))}


def _merchant_keys(home: Home, state: State, service: str) -> dict[str, str]:
    """Return the variables with the keys of merchants' payers and tokens; for other services where these are published.

    The files are made where they are missing.
    """
    issuing = token_issuer()
    if issuing not in state.ports:
        return {}
    if service != issuing:
        return {"BARAZA_MERCHANT_JWKS_URL": f"{http_url(state, issuing)}/.well-known/jwks.json"}
    home.password(PAYER_KEY)
    if not home.password_file(MERCHANT_TOKEN_KEY).exists():
        key = generate_private_key(SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        home.store(MERCHANT_TOKEN_KEY, pem.decode())
    return {
        "BARAZA_PAYER_KEY_FILE": str(home.password_file(PAYER_KEY)),
        "BARAZA_MERCHANT_TOKEN_KEY_FILE": str(home.password_file(MERCHANT_TOKEN_KEY)),
    }


def _webhook_key(home: Home) -> dict[str, str]:
    """Return the variables of who calls merchants' endpoints; on one machine these may be on it as well."""
    home.password(WEBHOOK_KEY)
    return {"BARAZA_WEBHOOK_KEY_FILE": str(home.password_file(WEBHOOK_KEY)), "BARAZA_WEBHOOK_LOOPBACK": "true"}


def simulator_folder(home: Home) -> Path:
    """Return the folder of the simulators' records."""
    return home.folder("simulators")


def _database(ports: Mapping[str, int], home: Home, service: str) -> dict[str, str]:
    """Return the variables of a process's login to its database."""
    login = package_of(service)
    return {
        "BARAZA_DATABASE_URL": _database_url(ports, database_of(service), login),
        "BARAZA_DATABASE_PASSWORD_FILE": str(home.password_file(login)),
    }


def _database_url(ports: Mapping[str, int], database: str, role: str) -> str:
    """Return the address without the password, which is read from its file at each connection."""
    return f"postgresql+psycopg://{role}@{LOOPBACK}:{ports[postgres.NAME]}/{database}"
