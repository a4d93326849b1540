"""Many orders in one request. Each is validated by itself; the accepted ones commit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from chassis.http.problem import FieldError, Problem, broken_json, flawed_json, invalid, refused_item
from chassis.values.json_text import JsonFlaw, check_sizes, parse
from checkout.domain import IDEMPOTENCY_KEY_LENGTH_MAX, IDEMPOTENCY_KEY_PATTERN, Cart
from checkout.fields import CONFIG
from checkout.intake import Acceptance, Submission, submission
from checkout.order_batcher import Result
from checkout.tables import Key, StoredResponse

ORDERS_MAX: Final = 500
"""The services handle as many messages in one batch."""
BODY_BYTES_MAX: Final = 8_388_608
"""ORDERS_MAX carts of LINES_MAX lines with the longest SKUs, and room for spaces."""
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
REPLAYED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedCart(Cart):
    """A cart with its idempotency key."""

    __pydantic_config__ = CONFIG

    idempotency_key: Annotated[
        str, Field(min_length=1, max_length=IDEMPOTENCY_KEY_LENGTH_MAX, pattern=IDEMPOTENCY_KEY_PATTERN)
    ]


_KEYED_CART: TypeAdapter[KeyedCart] = TypeAdapter(KeyedCart)


def request_body() -> dict[str, Any]:
    """Return the OpenAPI description of the request's body. It accepts any item: each is validated by itself."""
    item = {"description": "A body of POST /v1/orders, and its `idempotency_key`."}
    orders = {"type": "array", "minItems": 1, "maxItems": ORDERS_MAX, "items": item}
    return {
        "required": True,
        "content": {
            JSON: {"schema": orders},
            NDJSON: {"schema": {"type": "string", "description": "One order a line."}},
        },
    }


def respond(
    body: bytes,
    content_type: str,
    *,
    client_id: str,
    admit: Callable[[int, Sequence[Key]], Mapping[Key, StoredResponse]],
    store: Callable[[Sequence[Submission], Mapping[Key, StoredResponse]], list[Result]],
) -> str:
    """Read the orders, store the valid ones, and return the response's JSON: one result for each order, in their order.

    ``admit`` counts so many orders against their caller's limit, raises Problem where that is exceeded, and returns the
    cached responses of these keys. It is called once, also for a body that cannot be read, which counts as one order.
    Raises Problem for that.
    """
    try:
        read = [_read(item, client_id) for item in _items(body, content_type)]
    except Problem:
        admit(1, ())
        raise
    submissions = [each for each in read if isinstance(each, Submission)]
    stored = iter(store(submissions, admit(len(read), [each.key for each in submissions])))
    results: list[str] = []
    counts = {"accepted": 0, "replayed": 0, "refused": 0}
    for each in read:
        key = each.idempotency_key if isinstance(each, Submission) else None
        result = next(stored) if isinstance(each, Submission) else each
        if isinstance(result, Acceptance):
            counts["replayed" if result.is_replay else "accepted"] += 1
            status = REPLAYED if result.is_replay else result.status
            results.append(f'{{"idempotency_key":{json.dumps(key)},"status":{status},"order":{result.body}}}')
        else:
            counts["refused"] += 1
            problem = result if isinstance(result, Problem) else _failed()
            results.append(json.dumps({"idempotency_key": key, "status": problem.status, "problem": problem.to_json()}))
    totals = ",".join(f'"{name}":{count}' for name, count in counts.items())
    return f'{{{totals},"results":[{",".join(results)}]}}'


def _items(body: bytes, content_type: str) -> list[object]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == JSON:
        whole = _json(body)
        if not isinstance(whole, list):
            raise invalid([FieldError(pointer="#", detail="Not a list; send a JSON array of orders.")])
        items: list[object] = whole
    elif media_type == NDJSON:
        items = [line for line in body.splitlines() if line.strip()]
    else:
        raise Problem(status=415, detail=f"Send the orders as {JSON} (an array) or {NDJSON} (one a line).")
    if not 1 <= len(items) <= ORDERS_MAX:
        raise invalid([FieldError(pointer="#", detail=f"{len(items)} orders; send 1 to {ORDERS_MAX} in one request.")])
    return items


def _json(body: bytes) -> object:
    try:
        return parse(body)
    except JsonFlaw as flaw:
        raise flawed_json(str(flaw)) from flaw
    except (ValueError, RecursionError) as error:
        raise broken_json() from error


def _read(item: object, client_id: str) -> Submission | Problem:
    try:
        value = _json(item) if isinstance(item, bytes) else item
        check_sizes(value)
        cart = _KEYED_CART.validate_python(value)
    except Problem as problem:
        return problem
    except JsonFlaw as flaw:
        return flawed_json(str(flaw))
    except ValidationError as error:
        return refused_item(error)
    # Each order has a trace of its own; the trace of this request would hold hundreds of sagas.
    return submission(client_id, cart.idempotency_key, cart, None)


def _failed() -> Problem:
    return Problem(status=500, detail="The service failed on this order; its log says where. Send it again later.")
