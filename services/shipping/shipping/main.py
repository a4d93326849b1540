"""The shipping process."""

from __future__ import annotations

from functools import partial

from chassis.http.downstream import Downstream
from chassis.process import service
from chassis.process.calls import CALLS_MAX
from chassis.process.service import Dependencies, Service
from shipping import api
from shipping.callbacks import CourierCallbacks, secrets_in
from shipping.collecting import collecting
from shipping.handlers import handlers
from shipping.http_courier import HttpCourier

COURIER_TIMEOUT_S = 2.0
"""A call that takes longer counts as unanswered. The timeout of the step leaves time for three such calls."""


def build(dependencies: Dependencies) -> Service:
    """Wire the service. Without the secret of the courier's webhooks none is taken, and the courier is queried."""
    settings = dependencies.settings
    downstream = Downstream("courier", settings.courier_url, timeout_s=COURIER_TIMEOUT_S, concurrency_max=CALLS_MAX)
    courier, file = HttpCourier(downstream), settings.courier_webhook_secret_file
    return Service(
        handlers=(*handlers(courier), collecting(courier)),
        app=api.application(dependencies),
        callbacks=() if file is None else (CourierCallbacks(secrets=partial(secrets_in, file)),),
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
