"""Customers and staff at two issuers: each gives only the roles that it may ever give, whatever its tokens claim."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.http.auth import InvalidToken, Principal
from chassis.http.issuers import Issuers, general_verifier
from chassis.settings import Settings, TrustedIssuer
from support.issuer import ISSUER, token, verifying
from support.two_issuers import CUSTOMERS, STAFF, customers_token, issuers, staff_token

ADMINISTRATOR = {"roles": {"shop-admins": "operator", "shop-desk": "support"}}


def verified(sent: str, *trusted: TrustedIssuer) -> Principal:
    return issuers(*trusted).verify(sent)


def test_a_customers_token_that_claims_the_role_of_an_operator_comes_out_as_a_customer() -> None:
    caller = verified(customers_token("wanjiru", roles=["operator"]), CUSTOMERS, STAFF)
    assert (caller.subject, caller.roles) == ("wanjiru", {"customer"})


def test_it_does_so_where_it_is_accepted_without_waiting_too() -> None:
    caller = asyncio.run(issuers(CUSTOMERS, STAFF).authenticate(customers_token("wanjiru", roles=["operator"])))
    assert caller.roles == {"customer"}


@pytest.mark.parametrize("role", ["operator", "support", "finance", "approver", "bookkeeper", "catalogue", "merchant"])
def test_no_role_of_staff_comes_of_the_customers_issuer(role: str) -> None:
    assert verified(customers_token("wanjiru", roles=[role, "customer"]), CUSTOMERS, STAFF).roles == {"customer"}


def test_a_customers_issuer_that_maps_a_group_to_a_role_which_it_may_not_give_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="operator"):
        TrustedIssuer(**{**CUSTOMERS.model_dump(), "roles": {"vip": "operator"}})


def test_staff_get_the_roles_that_their_issuer_may_give() -> None:
    caller = verified(staff_token("amina", roles=["finance", "approver", "customer"]), CUSTOMERS, STAFF)
    assert caller.roles == {"finance", "approver"}, "an issuer of staff makes no customers"


def test_a_token_signed_by_one_issuer_that_names_the_other_is_refused() -> None:
    with pytest.raises(InvalidToken):
        verified(customers_token("wanjiru", roles=["operator"], iss=STAFF.issuer), CUSTOMERS, STAFF)


def test_a_token_of_an_issuer_that_is_not_listed_is_refused_and_the_answer_shows_nothing_of_it() -> None:
    with pytest.raises(InvalidToken) as refused:
        verified(customers_token("wanjiru", iss="https://elsewhere.test"), CUSTOMERS, STAFF)
    assert "elsewhere" not in str(refused.value)


@pytest.mark.parametrize("claims", [{"iss": 7}, {"iss": ["a"]}, {"iss": None}], ids=str)
def test_an_issuer_that_is_no_text_is_refused(claims: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verified(customers_token("wanjiru", **claims), CUSTOMERS, STAFF)


def test_groups_of_the_provider_are_mapped_to_roles_and_the_others_count_for_nothing() -> None:
    mapped = STAFF.model_copy(update={"roles_claim": "groups", **ADMINISTRATOR})
    caller = verified(staff_token("amina", groups=["shop-admins", "operator", "finance"], roles=["finance"]), mapped)
    assert caller.roles == {"operator"}, "a claim value that is no key of the mapping is no role, whatever its name"


def test_roles_are_found_in_a_nested_claim_as_keycloak_has_them_and_by_a_name_with_dots() -> None:
    nested = STAFF.model_copy(update={"roles_claim": "realm_access.roles"})
    assert verified(staff_token("amina", roles=[], realm_access={"roles": ["operator"]}), nested).roles == {"operator"}
    named = STAFF.model_copy(update={"roles_claim": "https://shop.test/roles"})
    claims = {"https://shop.test/roles": ["support"]}
    assert verified(staff_token("amina", roles=["operator"], **claims), named).roles == {"support"}


@pytest.mark.parametrize(
    "overage",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.test"}}},
        {"hasgroups": True},
        {"hasgroups": "true"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_token_that_only_points_to_its_groups_has_no_role(overage: Mapping[str, Any]) -> None:
    assert verified(staff_token("amina", roles=["operator"], **overage), STAFF).roles == frozenset()


def test_the_subject_is_the_claim_that_the_issuer_is_set_to_and_never_another_one_instead() -> None:
    by_oid = STAFF.model_copy(update={"subject_claim": "oid"})
    assert verified(staff_token("pairwise", oid="5f1d"), by_oid).subject == "5f1d"
    with pytest.raises(InvalidToken, match="oid"):
        verified(staff_token("pairwise"), by_oid)


def test_the_log_names_the_issuer_and_the_subject_since_two_issuers_may_use_one_name() -> None:
    staff, customer = staff_token("amina"), customers_token("amina")
    assert verified(staff, CUSTOMERS, STAFF).actor == f"{STAFF.issuer}|amina"
    assert verified(customer, CUSTOMERS, STAFF).actor == f"{CUSTOMERS.issuer}|amina"
    assert verified(customer, CUSTOMERS, STAFF).subject == "amina", "it is the customer id"


def test_an_issuer_that_was_the_only_one_keeps_its_names_in_the_log_and_only_one_may() -> None:
    before = STAFF.model_copy(update={"subject_alone": True})
    assert verified(staff_token("amina"), CUSTOMERS, before).actor == "amina"
    with pytest.raises(ValueError, match="subject_alone"):
        issuers(before, CUSTOMERS.model_copy(update={"subject_alone": True}))


def test_an_issuer_is_listed_once_and_none_has_the_name_of_merchants_tokens() -> None:
    with pytest.raises(ValueError, match="twice"):
        issuers(STAFF, STAFF)
    with pytest.raises(ValueError, match="baraza-merchant"):
        issuers(STAFF.model_copy(update={"issuer": "baraza-merchant"}))


def test_roles_that_everybody_of_an_issuer_has_are_roles_that_it_may_give() -> None:
    with pytest.raises(ValidationError, match="operator"):
        TrustedIssuer(**{**CUSTOMERS.model_dump(), "always": ["operator"]})


def settings(**own: Any) -> Settings:
    stated = {"service": "x", "kafka": "x", "registry_url": "x", "database_url": "x"}
    return Settings(database_password_file=Path("/nowhere"), **stated, **own)


def test_the_list_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARAZA_ISSUERS", json.dumps([CUSTOMERS.model_dump(mode="json"), STAFF.model_dump(mode="json")]))
    assert settings().issuers == (CUSTOMERS, STAFF)
    assert isinstance(general_verifier(settings()), Issuers)


def test_settings_of_one_issuer_go_on_as_they_were() -> None:
    with verifying() as one:
        url = one._jwks_url
        verifier = general_verifier(settings(jwks_url=url, issuer=ISSUER, audience="baraza"))
        caller = verifier.verify(token("s", "operator", "anything"))
    assert (caller.subject, caller.actor, caller.roles) == ("s", "s", {"operator", "anything"})
