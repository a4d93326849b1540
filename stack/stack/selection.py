"""Which services and simulators the selected sagas need. Pure, but for looking which packages are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence

from saga_tracker.definitions import DEFINITIONS
from stack import contract
from stack.contract import CONSOLE, TRACKER, TRACKER_API
from stack.errors import InvalidSettings
from stack.providers import PROVIDERS, SIMULATORS, callers

EVERY_SAGA = "all"
"""Selects the sagas whose services are installed, as a new home does."""

IsInstalled = Callable[[str], bool]


def is_installed(service: str) -> bool:
    """Return whether the package of a service is there."""
    return importlib.util.find_spec(contract.package_of(service)) is not None


def read(text: str) -> tuple[str, ...]:
    """Return the sagas that ``--sagas`` names; none stands for all of them. Raises InvalidSettings."""
    names = tuple(name.strip() for name in text.split(","))
    if names == (EVERY_SAGA,):
        return ()
    check(names)
    return names


def known() -> tuple[str, ...]:
    """Return the name of every saga, each once."""
    return tuple(dict.fromkeys(definition.name for definition in DEFINITIONS.values()))


def check(sagas: Sequence[str], installed: IsInstalled = is_installed) -> None:
    """Raise InvalidSettings for a saga that is unknown, selected twice, or whose services are not installed."""
    every = known()
    for place, name in enumerate(sagas):
        if name not in every:
            raise InvalidSettings(f"There is no saga {name!r}; known: {', '.join(every)}, or {EVERY_SAGA} alone.")
        if name in sagas[:place]:
            raise InvalidSettings(f"The saga {name} is selected twice; name it once.")
        if missing := [service for service in _participants(name) if not installed(service)]:
            raise InvalidSettings(
                f"The saga {name} needs {', '.join(missing)}, which is not installed; run './baraza' again."
            )


def selected(sagas: Sequence[str], installed: IsInstalled = is_installed) -> tuple[str, ...]:
    """Return the sagas that these names select: where there are none, all whose services are installed."""
    if sagas:
        return tuple(sagas)
    return tuple(name for name in known() if all(map(installed, _participants(name))))


def components(sagas: Sequence[str], installed: IsInstalled = is_installed) -> tuple[str, ...]:
    """Return the simulators and services to start, in starting order.

    The tracker and the console are always among them, and so are the services that people order from: their APIs stay.
    """
    wanted = {service for name in selected(sagas, installed) for service in _participants(name)}
    wanted |= {service for service in contract.starters() if installed(service)}
    services = tuple(service for service in contract.services() if service in wanted)
    console = (CONSOLE,) if installed(CONSOLE) else ()
    return (*_simulators(services), *services, TRACKER, TRACKER_API, *console)


def absence(component: str, sagas: Sequence[str]) -> str:
    """Return the sentence for a service or simulator that these sagas do not need: that, and how to start it."""
    now = selected(sagas)
    wanted = set(callers(component) if component in PROVIDERS else (component,))
    needing = next(name for name in known() if wanted & set(_participants(name)))
    return (
        f"{component} is not started: the stack runs {', '.join(now)}. "
        f"Start it with: ./baraza up --sagas {','.join((*now, needing))}"
    )


def _simulators(services: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in SIMULATORS if name not in PROVIDERS or set(callers(name)) & set(services))


def _participants(saga: str) -> tuple[str, ...]:
    """Return the services that any version of a saga needs."""
    versions = (definition for definition in DEFINITIONS.values() if definition.name == saga)
    return tuple(dict.fromkeys(service for definition in versions for service in definition.participants))
