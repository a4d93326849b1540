"""``python -m simulators.adyen``."""

from __future__ import annotations

from simulators import accounts
from simulators.accounts import AccountSettings
from simulators.records import Records
from simulators.server import load, serve
from simulators.simulator import Simulator


def main() -> None:
    """Serve the gateway."""
    settings = load(AccountSettings)
    accounts.read(settings.simulator_accounts)
    with Records.open(settings.simulator_records) as records:
        serve(Simulator("adyen", (), {}, records, settings.simulator_seed).app(), settings)


if __name__ == "__main__":
    main()
