"""The development issuers: two names, two key sets, people of each to click on; and each as the stack trusts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from baraza.system import client
from chassis.http.auth import InvalidToken
from chassis.http.issuers import Issuers
from console.main import access_verifier
from console.settings import ConsoleSettings
from simulators import issuer, people
from simulators.testing import free_port
from stack import issuers
from support.apps import App
from support.consoles import Served
from support.two_issuers import FORGED_ROLES

CUSTOMER, MEMBER, FORGER = (each.sub for each in people.CUSTOMERS)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as found:
        yield found


@pytest.fixture(scope="module")
def staff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Both issuers in one process: the name of the staff's, which is its address."""
    folder, port = tmp_path_factory.mktemp("issuer"), free_port()
    (folder / "client").write_text("secret")
    settings = issuer.IssuerSettings(
        issuer=f"http://127.0.0.1:{port}",
        http_port=port,
        issuer_keys=folder / "keys",
        console_url="http://127.0.0.1:1",
        console_client_secret_file=folder / "client",
    )
    served = Served(lambda: issuer.build(settings), port)
    served.start()
    yield settings.issuer
    served.stop()


@pytest.fixture(scope="module")
def customers(staff: str) -> str:
    return issuers.customers_of(staff)


@pytest.fixture(scope="module")
def trusted(staff: str) -> Issuers:
    """What every API of a stack verifies tokens with."""
    return Issuers(issuers.trusted(staff))


def minted(http: httpx.Client, url: str, *roles: str, subject: str = "c-1") -> str:
    answer = http.post(f"{url}/token", json={"sub": subject, "roles": list(roles), "ttl_s": 60})
    return str(answer.json()["access_token"])


def test_the_two_have_names_and_keys_of_their_own(http: httpx.Client, staff: str, customers: str) -> None:
    described = [http.get(f"{each}/.well-known/openid-configuration").json() for each in (staff, customers)]
    assert [each["issuer"] for each in described] == [staff, customers]
    assert [each["jwks_uri"] for each in described] == [issuers.keys_of(staff), issuers.keys_of(customers)]
    sets = [http.get(each["jwks_uri"]).json()["keys"] for each in described]
    assert {len(each) for each in sets} == {2}
    assert not {each["kid"] for each in sets[0]} & {each["kid"] for each in sets[1]}


def test_what_the_customers_issuer_is_made_to_claim_comes_out_as_a_customer(
    http: httpx.Client, customers: str, trusted: Issuers
) -> None:
    caller = trusted.verify(minted(http, customers, *FORGED_ROLES))
    assert (caller.subject, set(caller.roles)) == ("c-1", {"customer"})
    assert caller.actor == f"{customers}|c-1"


def test_the_staffs_issuer_gives_every_role_of_staff_and_names_its_people_as_before(
    http: httpx.Client, staff: str, trusted: Issuers
) -> None:
    caller = trusted.verify(minted(http, staff, *issuers.STAFF_ROLES, "customer", "merchant", "live", subject="ann"))
    assert (caller.actor, set(caller.roles)) == ("ann", set(issuers.STAFF_ROLES))


@pytest.mark.parametrize(
    ("sub", "roles"), [(CUSTOMER, {"customer"}), (MEMBER, {"customer", "member"}), (FORGER, {"customer"})]
)
def test_a_person_who_signs_in_at_the_customers_issuer_is_a_customer(
    http: httpx.Client, customers: str, trusted: Issuers, sub: str, roles: set[str]
) -> None:
    tokens = App(http=http, issuer=customers).sign_in(sub)
    caller = trusted.verify(tokens["access_token"])
    assert (caller.subject, set(caller.roles)) == (sub, roles)
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (customers, sub, "n")


def test_the_last_of_the_customers_really_claims_to_be_staff(http: httpx.Client, customers: str) -> None:
    token = App(http=http, issuer=customers).sign_in(FORGER)["access_token"]
    assert "operator" in jwt.decode(token, options={"verify_signature": False})["roles"]


def test_people_of_one_issuer_are_unknown_to_the_other(http: httpx.Client, customers: str) -> None:
    assert not {each.sub for each in people.STAFF} & {each.sub for each in people.CUSTOMERS}
    assert App(http=http, issuer=customers).answer_of(people.STAFF[0].sub)["error"] == "access_denied"


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1:49152/callback", "http://127.0.0.1.evil.test/callback", "http://evil.test/callback",
        "http://127.0.0.1@evil.test/callback", "http://127.0.0.1/elsewhere", "http://127.0.0.1/callback?a=b", "",
    ],
)  # fmt: skip
def test_an_answer_for_customers_is_sent_to_this_machine_alone(
    http: httpx.Client, customers: str, address: str
) -> None:
    page = App(http=http, issuer=customers).sign_in_page(redirect_uri=address)
    assert (page.status_code, "location" in page.headers) == (400, False)


def test_a_code_without_its_verifier_or_for_another_address_is_worth_nothing(
    http: httpx.Client, customers: str
) -> None:
    app = App(http=http, issuer=customers)
    for change in ({"code_verifier": "stolen"}, {"redirect_uri": "http://127.0.0.1:1/callback"}):
        assert app.exchange(app.answer_of(CUSTOMER), **change)["error"] == "invalid_grant"
    assert app.exchange(app.answer_of(CUSTOMER), client_id="another")["error"] == "invalid_client"


def test_a_code_of_customers_is_unknown_at_the_staffs_issuer(http: httpx.Client, staff: str, customers: str) -> None:
    answer = App(http=http, issuer=customers).answer_of(FORGER)
    form = {"grant_type": "authorization_code", "code": answer["code"]}
    refused = http.post(f"{staff}/oauth/token", data=form, auth=("baraza-console", "secret"))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_the_command_line_requests_the_roles_that_the_staffs_issuer_may_give() -> None:
    assert set(client.STAFF_ROLES) <= set(issuers.STAFF_ROLES)


def console_settings(folder: Path, staff: str, listed: str) -> ConsoleSettings:
    own: Mapping[str, Any] = {"console_url": "http://127.0.0.1:1", "console_key_file": folder / "key",
                              "console_client_secret_file": folder / "client"}  # fmt: skip
    return ConsoleSettings(issuer=staff, jwks_url=issuers.keys_of(staff), issuers=json.loads(listed), **own)


def test_the_console_accepts_the_issuer_of_its_own_people_alone(
    http: httpx.Client, staff: str, customers: str, tmp_path: Path
) -> None:
    both = issuers.variable(issuers.trusted(staff))
    verifier = access_verifier(console_settings(tmp_path, staff, both))
    own = asyncio.run(verifier.authenticate(minted(http, staff, "support", "customer", subject="sue")))
    assert own.roles == {"support"}
    with pytest.raises(InvalidToken, match="not trusted"):
        asyncio.run(verifier.authenticate(minted(http, customers, "operator")))


def test_a_console_whose_own_issuer_is_not_listed_does_not_start(tmp_path: Path) -> None:
    others = issuers.variable(issuers.trusted("https://staff.test"))
    with pytest.raises(ValueError, match=r"does not list https://elsewhere\.test"):
        access_verifier(console_settings(tmp_path, "https://elsewhere.test", others))
