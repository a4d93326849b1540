"""Whether two operators may resolve how a saga ends whose facts contradict one another. Pure."""

from __future__ import annotations

from saga_tracker.model.facts import Progress, Resolution
from saga_tracker.model.progress import contradiction_of, ran_count_of
from saga_tracker.model.saga import SagaDefinition


class NotResolvable(Exception):
    """The saga cannot be resolved in this way. The text says why, and what to do instead."""


def check_resolvable(
    definition: SagaDefinition, progress: Progress, resolution: Resolution, *, published: Resolution | None
) -> None:
    """Raise NotResolvable unless the saga may be resolved so. ``published`` is the end that it had before, if any."""
    ran_count = ran_count_of(definition, progress)
    if progress.resolved is not None or contradiction_of(definition, progress, ran_count) is None:
        if published is not None:
            raise NotResolvable(f"It has ended as {published}, and its facts do not contradict one another.")
        raise NotResolvable("Its facts do not contradict one another; redrive, compensate or cancel it instead.")
    if published is not None and published is not resolution:
        raise NotResolvable(f"It was published as {published}, which nothing takes back; resolve it as that.")
    if resolution is Resolution.CONFIRMED and ran_count < len(definition.steps):
        step = definition.steps[ran_count].name
        raise NotResolvable(f"{step} is not known to have run; only a saga whose steps all ran can be confirmed.")
