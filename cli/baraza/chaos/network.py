"""Faults of the network, injected through toxiproxy."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from baraza.terminal import Refusal

TIMEOUT_S = 5.0

Toxic = Mapping[str, Any]


def latency(delay_ms: int, jitter_ms: int) -> Toxic:
    """Return a toxic that delays every response."""
    return {"type": "latency", "stream": "downstream", "attributes": {"latency": delay_ms, "jitter": jitter_ms}}


def reset(after_ms: int, share: float) -> Toxic:
    """Return a toxic that resets a share of the connections."""
    return {"type": "reset_peer", "stream": "downstream", "toxicity": share, "attributes": {"timeout": after_ms}}


def silence(share: float = 1.0, *, closing_after_ms: int = 0, stream: str = "downstream") -> Toxic:
    """Return a toxic that drops all data on a share of the connections, and closes them after a while (0: never)."""
    return {"type": "timeout", "stream": stream, "toxicity": share, "attributes": {"timeout": closing_after_ms}}


class Network:
    """The network between our processes and their dependencies, by the names of toxiproxy's proxies."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def add(self, proxy: str, toxic: Toxic) -> None:
        """Add a toxic to a proxy. Raises Refusal."""
        self._post(f"/proxies/{proxy}/toxics", toxic)

    def cut(self, proxy: str) -> None:
        """Close a proxy's connections and refuse new ones. Raises Refusal."""
        self._post(f"/proxies/{proxy}", {"enabled": False})

    def heal(self) -> None:
        """Remove every toxic and open every proxy. Raises Refusal."""
        self._post("/reset", {})

    def _post(self, path: str, body: Toxic) -> None:
        try:
            self._http.post(path, json=body).raise_for_status()
        except httpx.HTTPError as error:
            raise Refusal(f"Toxiproxy refused {path} ({error}). See its log in the stack's home.") from error
