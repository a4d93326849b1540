"""The issuers whose tokens every API accepts, each confined to the roles that it may ever give.

Who may act for every customer (``storefront``) is staff: what the customers' issuer is made to claim must reach the
caller's own things and nothing else.
"""

from __future__ import annotations

import json
from typing import Final

from chassis.settings import TrustedIssuer

AUDIENCE: Final = "baraza"
CUSTOMERS_PATH: Final = "/customers"
"""Where the development issuer of customers is, below the staff's."""
CUSTOMERS_ROLES: Final = ("customer", "member")
STAFF_ROLES: Final = (
    "storefront", "operator", "support", "catalogue", "finance", "bookkeeper", "teller", "treasury", "approver",
)  # fmt: skip


def customers_of(issuer: str) -> str:
    """Return the name of the development issuer of customers, which is also its address."""
    return f"{issuer}{CUSTOMERS_PATH}"


def keys_of(issuer: str) -> str:
    """Return where an issuer publishes its keys."""
    return f"{issuer}/.well-known/jwks.json"


def trusted(issuer: str) -> tuple[TrustedIssuer, ...]:
    """Return both issuers by the name of the staff's, which was the only one before: logs go on naming its people."""
    customers = customers_of(issuer)
    return (
        TrustedIssuer(
            issuer=issuer, jwks_url=keys_of(issuer), audience=AUDIENCE, may_be=STAFF_ROLES, subject_alone=True
        ),
        TrustedIssuer(
            issuer=customers,
            jwks_url=keys_of(customers),
            audience=AUDIENCE,
            always=CUSTOMERS_ROLES[:1],
            may_be=CUSTOMERS_ROLES,
        ),
    )


def variable(issuers: tuple[TrustedIssuer, ...]) -> str:
    """Return the value of ``BARAZA_ISSUERS``."""
    return json.dumps([each.model_dump(mode="json", exclude_defaults=True) for each in issuers])
