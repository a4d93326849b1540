"""Calls to one account at a gateway: within its limit of requests, and under a lease of its idempotency key.

The lease is an economy: it keeps two replicas from sending one request at the same time. The gateway's key is what
keeps a card from being charged twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Final, Literal

from chassis.http.downstream import Downstream, Response
from payment.gateways.limiter import Limiter
from payment.lease import CallLease

KEY_LENGTH_MAX: Final = 64
"""Adyen's limit. Stripe takes 255."""


class Account:
    """One account, for callers in many threads. ``headers`` returns what each request has besides, read anew."""

    def __init__(
        self, downstream: Downstream, *, limiter: Limiter, lease: CallLease, headers: Mapping[str, str] | None = None
    ) -> None:
        if downstream.duration_s_max >= lease.ttl_s:
            raise ValueError(
                f"A call may take {downstream.duration_s_max} s, but its lease expires after {lease.ttl_s} s. "
                "Lower the timeout of the call below the lease's."
            )
        self.name = downstream.name
        self._downstream = downstream
        self._limiter = limiter
        self._lease = lease
        self._headers = dict(headers or {})

    def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        key: str | None = None,
        body: Mapping[str, object] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Call once and return the answer. Raises Unavailable where there is no usable one.

        Raises ValueError for a key that is longer than a gateway takes: it would be cut, and two keys would be one.
        """
        if key is not None and len(key) > KEY_LENGTH_MAX:
            raise ValueError(f"The idempotency key {key} has {len(key)} characters; {KEY_LENGTH_MAX} are the most.")
        self._limiter.wait()
        with nullcontext() if key is None else self._lease.hold(key):
            return self._downstream.request(
                method,
                path,
                body=body,
                form=form,
                idempotency_key=key,
                headers={**self._headers, **(headers or {})},
            )
