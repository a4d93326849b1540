"""``python -m saga_tracker.reread TOPIC…``: let the tracker read topics from Kafka's earliest messages again.

For an operator whose Kafka no longer has the stored offsets. What is recorded already changes nothing when it is read
again. It may run while the worker does: that one then ends and begins anew.
"""

from __future__ import annotations

import sys

from chassis.postgres import database
from chassis.settings import Settings
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import topics
from saga_tracker.store import consumed_offsets

USAGE = "Usage: python -m saga_tracker.reread TOPIC…, for example payment.events inventory.events.\n"


def main() -> int:
    """Delete the offsets of the topics. Exit status: 2 where none is given, or one that the tracker does not read."""
    wanted, read = set(sys.argv[1:]), set(topics(DEFINITIONS))
    if not wanted:
        sys.stderr.write(USAGE)
        return 2
    if unknown := sorted(wanted - read):
        sys.stderr.write(f"The tracker does not read {unknown[0]}; it reads {', '.join(sorted(read))}.\n")
        return 2
    settings = Settings()
    engine = database.create(settings.database_url, settings.database_password_file, application=settings.service)
    with engine.begin() as tx:
        count = consumed_offsets.discard(tx, wanted)
    sys.stdout.write(f"{count} partitions are read from Kafka's earliest messages.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
