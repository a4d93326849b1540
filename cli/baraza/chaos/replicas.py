"""A service's replicas in rotation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from baraza.system.client import Api


class Replicas:
    """A service's replicas in rotation: a retry reaches another one."""

    def __init__(self, apis: Sequence[Api]) -> None:
        self._rotation = itertools.cycle(apis)
        self._lock = threading.Lock()

    def next(self) -> Api:
        """Return the next replica."""
        with self._lock:
            return next(self._rotation)

    def send(self, method: str, path: str, *, body: Any = None) -> httpx.Response:
        """Make one call and return the response, whatever its status. Raises Unreachable where there is none."""
        return self.next().send(method, path, body=body)

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Make one call and return the response's JSON. Raises Refused or Unreachable."""
        return self.next().call(method, path, body=body, headers=headers)

    def check(self, response: httpx.Response) -> Any:
        """Return the response's JSON. Raises Refused where its status is an error."""
        return self.next().check(response)
