"""The benchmark's providers: gateways inside of payment, a courier inside of shipping, one inside of mobile-money.

No call leaves the process. Each package has a ``main`` that runs instead of the service's own and migrations for its
tables in the service's database. Nothing here may ever take real money: who can write payment's database can write
these records as well.
"""

from __future__ import annotations

from collections.abc import Mapping

SUBSTITUTES: Mapping[str, str] = {
    "payment": "bench_providers.gateway",
    "shipping": "bench_providers.courier",
    "mobile-money": "bench_providers.mobile_money",
}
"""By service, the package that the stack runs instead (``StackSettings.substitutes``)."""
VERSION_TABLE = "bench_providers_version"
"""Where alembic keeps the revision of these tables, beside the service's own ``alembic_version``."""
