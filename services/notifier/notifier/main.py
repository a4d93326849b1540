"""The notifier process."""

from __future__ import annotations

from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.service import Dependencies, Service
from messages.notifier import MerchantEvent
from notifier import api, text_metrics, webhook_metrics
from notifier.calling import Caller
from notifier.delivering import Deliverer
from notifier.handlers import HANDLERS
from notifier.notices import saving
from notifier.outgoing import TOPIC
from notifier.sealing import Sealing
from notifier.tasks import tasks
from notifier.texter import Recorder
from notifier.texting import TextSender


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    settings, codec = dependencies.settings, dependencies.codec
    deliverer = Deliverer(
        dependencies.engine,
        Caller(api.rules_of(settings)),
        Sealing(settings.webhook_key_file),
        saving(codec),
        clock=utc_now,
    )
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies),
        measures=(*webhook_metrics.MEASURES, *text_metrics.MEASURES),
        tasks=tasks(utc_now),
        runners=(deliverer, TextSender(dependencies.engine, Recorder(), clock=utc_now)),
        also_publishes={TOPIC: (MerchantEvent,)},
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
