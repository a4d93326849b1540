"""Every world of a saga is visited, breadth first: what breaks an invariant is told by the shortest way there."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, replace

from saga_tracker.model.facts import Fact

from proof.states import Model, ModelState


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What was found. ``trace`` is the shortest way to a world that breaks an invariant, None where all hold.

    ``states`` are those in which the saga came to an end.
    """

    worlds: int
    ends: int
    moves: int
    states: tuple[str, ...]
    violation: str | None = None
    trace: tuple[str, ...] = ()
    is_whole: bool = True


def explore(model: Model, *, worlds_max: int | None = None) -> Exploration:
    """Visit every world breadth first; stop at the first that breaks an invariant, or when there are no more.

    ``worlds_max`` bounds it: then it is not whole, and nothing is said about ends that can be reached.
    """
    numbers: dict[ModelState, int] = {model.first: 0}
    came: list[tuple[int, str | Fact]] = [(0, "")]
    froms, tos = array("I"), array("I")
    ends: list[int] = []
    states: set[str] = set()
    frontier = deque([(0, model.first)])

    def so_far() -> Exploration:
        return Exploration(
            worlds=len(numbers), ends=len(ends), moves=len(froms), states=tuple(sorted(states)), is_whole=False
        )

    while frontier:
        number, world = frontier.popleft()
        if model.is_end(world):
            ends.append(number)
            states.add(model.decision(world).state)
        for what, after in model.moves(world):
            known = numbers.get(after)
            if known is None:
                known = numbers[after] = len(numbers)
                came.append((number, what))
                frontier.append((known, after))
            froms.append(number)
            tos.append(known)
            if (wrong := model.violation(world, after)) is not None:
                return replace(so_far(), violation=wrong, trace=(*_way(came, number), _said(what)))
        if worlds_max is not None and len(numbers) >= worlds_max:
            return so_far()
    del frontier
    whole = replace(so_far(), is_whole=True)
    stuck = _stuck(len(came), froms, tos, ends)
    if stuck is None:
        return whole
    return replace(whole, violation="no end can be reached any more", trace=_way(came, stuck))


def _way(came: list[tuple[int, str | Fact]], number: int) -> tuple[str, ...]:
    way: list[str] = []
    while number:
        number, what = came[number]
        way.append(_said(what))
    return tuple(reversed(way))


def _stuck(count: int, froms: array[int], tos: array[int], ends: list[int]) -> int | None:
    """Return the first world from which no end can be reached, None where there is none."""
    last, before = array("i", [-1]) * count, array("i", [-1]) * len(tos)
    for move, to in enumerate(tos):
        before[move], last[to] = last[to], move
    reaches = bytearray(count)
    pending = list(ends)
    for end in ends:
        reaches[end] = True
    while pending:
        move = last[pending.pop()]
        while move >= 0:
            if not reaches[froms[move]]:
                reaches[froms[move]] = True
                pending.append(froms[move])
            move = before[move]
    stuck = reaches.find(0)
    return None if stuck < 0 else stuck


def _said(what: str | Fact) -> str:
    if isinstance(what, str):
        return what
    about = getattr(what, "step", getattr(what, "service", getattr(what, "command", "")))
    return f"the tracker hears {type(what).__name__} {about}".rstrip()
