"""Every state of a saga is visited, breadth first, so that the trace to a broken invariant is the shortest."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from saga_tracker.model.facts import Fact

StateT = TypeVar("StateT", bound=Hashable)


class Explorable(Protocol[StateT]):
    """A model whose states can be visited. ``transitions`` are what happens in a state, and the state after it."""

    @property
    def initial(self) -> StateT: ...

    def transitions(self, state: StateT, /) -> Iterator[tuple[str | Fact, StateT]]: ...

    def violation(self, before: StateT, state: StateT, /) -> str | None: ...

    def is_end(self, state: StateT, /) -> bool: ...

    def outcome(self, state: StateT, /) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The result. ``trace`` is the shortest way to a state that breaks an invariant, empty where all hold.

    ``outcomes`` are the saga's states at its ends.
    """

    state_count: int
    end_count: int
    transition_count: int
    outcomes: tuple[str, ...]
    violation: str | None = None
    trace: tuple[str, ...] = ()
    is_whole: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the result as it is printed. Scripts read these keys, so they keep their names."""
        return {
            "worlds": self.state_count,
            "ends": self.end_count,
            "moves": self.transition_count,
            "states": self.outcomes,
            "violation": self.violation,
            "trace": self.trace,
            "is_whole": self.is_whole,
        }


def explore(model: Explorable[StateT], *, states_max: int | None = None) -> Exploration:
    """Visit every state breadth first. Stop at the first broken invariant, or when no state is left.

    ``states_max`` bounds the search. Then it is not whole, and does not check that an end can be reached.
    """
    numbers: dict[StateT, int] = {model.initial: 0}
    found_by: list[tuple[int, str | Fact]] = [(0, "")]
    sources, targets = array("I"), array("I")
    ends: list[int] = []
    outcomes: set[str] = set()
    frontier = deque([(0, model.initial)])

    def so_far() -> Exploration:
        return Exploration(
            state_count=len(numbers),
            end_count=len(ends),
            transition_count=len(sources),
            outcomes=tuple(sorted(outcomes)),
            is_whole=False,
        )

    while frontier:
        number, state = frontier.popleft()
        if model.is_end(state):
            ends.append(number)
            outcomes.add(model.outcome(state))
        for what, after in model.transitions(state):
            known = numbers.get(after)
            if known is None:
                known = numbers[after] = len(numbers)
                found_by.append((number, what))
                frontier.append((known, after))
            sources.append(number)
            targets.append(known)
            if (wrong := model.violation(state, after)) is not None:
                return replace(so_far(), violation=wrong, trace=(*_trace(found_by, number), _described(what)))
        if states_max is not None and len(numbers) >= states_max:
            return so_far()
    del frontier
    return _checked_for_dead_ends(replace(so_far(), is_whole=True), found_by, sources, targets, ends)


def _checked_for_dead_ends(
    whole: Exploration,
    found_by: list[tuple[int, str | Fact]],
    sources: array[int],
    targets: array[int],
    ends: list[int],
) -> Exploration:
    dead_end = _dead_end(len(found_by), sources, targets, ends)
    if dead_end is None:
        return whole
    return replace(whole, violation="no end can be reached any more", trace=_trace(found_by, dead_end))


def _trace(found_by: list[tuple[int, str | Fact]], number: int) -> tuple[str, ...]:
    """Return what happens on the way from the initial state to this one."""
    trace: list[str] = []
    while number:
        number, what = found_by[number]
        trace.append(_described(what))
    return tuple(reversed(trace))


def _dead_end(count: int, sources: array[int], targets: array[int], ends: list[int]) -> int | None:
    """Return the first state from which no end can be reached, None where there is none."""
    last, previous = array("i", [-1]) * count, array("i", [-1]) * len(targets)
    for transition, target in enumerate(targets):
        previous[transition], last[target] = last[target], transition
    reaches_end = bytearray(count)
    pending = list(ends)
    for end in ends:
        reaches_end[end] = True
    while pending:
        transition = last[pending.pop()]
        while transition >= 0:
            source = sources[transition]
            if not reaches_end[source]:
                reaches_end[source] = True
                pending.append(source)
            transition = previous[transition]
    dead_end = reaches_end.find(0)
    return None if dead_end < 0 else dead_end


def _described(what: str | Fact) -> str:
    if isinstance(what, str):
        return what
    subject = getattr(what, "step", getattr(what, "service", getattr(what, "command", "")))
    return f"the tracker records {type(what).__name__} {subject}".rstrip()
