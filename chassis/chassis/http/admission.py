"""Decides about a request before anything of its body is read. FastAPI alone parses the body first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant


class Guard(ABC):
    """Decides about requests. An endpoint declares it by a dependency that is a method of the guard.

    The route (:class:`chassis.http.json_body.JsonRoute`) calls :meth:`admit` first, and then reads the body. The
    dependency hands over what the guard found.
    """

    @abstractmethod
    async def admit(self, request: Request) -> None:
        """Note in the request's scope what was found. Raises Problem where the request must not be served."""


def guards_of(dependant: Dependant) -> Iterator[Guard]:
    """Yield the guards that an endpoint declares, in the order of its parameters."""
    for each in dependant.dependencies:
        owner = getattr(each.call, "__self__", None)
        if isinstance(owner, Guard):
            yield owner
        yield from guards_of(each)
