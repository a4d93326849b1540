"""The issuers whose tokens every API accepts, each confined to the roles that it may ever give.

Who may act for every customer (``storefront``) is staff: what the customers' issuer is made to claim must reach the
caller's own things and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from chassis.settings import TrustedIssuer
from stack.errors import InvalidSettings

AUDIENCE: Final = "baraza"
BREAK_GLASS_FILE: Final = "break-glass.json"
"""The file in a stack's home with the public keys of break-glass. Without it there is none."""
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


def sealed(file: Path) -> tuple[TrustedIssuer, ...]:
    """Return the issuer of break-glass whose public keys are in a file; none where there is no file.

    Raises InvalidSettings.
    """
    try:
        return (TrustedIssuer.model_validate_json(file.read_bytes()),)
    except FileNotFoundError:
        return ()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSettings(
            f"{file} is no issuer of break-glass ({where}: {first['msg']}); take the one that "
            "'baraza break-glass seal' wrote beside the key."
        ) from error


def variable(issuers: tuple[TrustedIssuer, ...]) -> str:
    """Return the value of ``BARAZA_ISSUERS``."""
    return json.dumps([each.model_dump(mode="json", exclude_defaults=True) for each in issuers])
