"""``baraza returns``: request, show and cancel returns of confirmed orders through checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from baraza.commands.options import Commands, Home, Json, Order, as_argument, check_key, check_reason, command, order_id
from baraza.repetition import done, repeatable
from baraza.system import running
from baraza.terminal import UsageRefusal, notify, put, put_json

app = Commands(no_args_is_help=True, help="Returns of confirmed orders, as checkout knows them.")

Return = Annotated[str, typer.Argument(metavar="RETURN", help="The return's id.", show_default=False)]
ReturnFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A JSON file with one body of POST /v1/orders/ORDER/returns; - for stdin.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="What was done; it is kept for ever.", show_default=False)]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key returns the same return again.", show_default=False),
]


@app.command()
def request(order: Order, file: ReturnFile, key: Key = None, home: Home = None, as_json: Json = False) -> None:
    """Request a return of pieces of an order. Its idempotency key is written to stderr, as for an order."""
    from baraza.storefront.bodies import json_of
    from baraza.storefront.orderfile import submission

    check_key(key)
    name = order_id(order)
    path = f"/v1/orders/{name}/returns"
    content = json_of(file, f"POST {path}")
    sent = submission(content, str(file), request=f"POST {path}")
    own = content.get("idempotency_key")
    if None not in (own, key) and own != key:
        raise UsageRefusal(f"{file} has the idempotency key {own!r}, --idempotency-key is {key!r}; give one of them.")
    chosen = key or sent.key
    again = command("returns", "request", name, as_argument(file), "--idempotency-key", chosen, home=home)
    with running.find(home).api("checkout") as checkout:
        notify(f"Idempotency key: {chosen}")
        repeat = f"Repeat it safely, under the key {chosen}: {again}"
        with repeatable("Whether the return was accepted is unknown.", repeat) as outcome:
            accepted = checkout.call("POST", path, body=sent.body, headers={"Idempotency-Key": chosen})
            line = _line(accepted)
            outcome.text = f"The return was accepted as {accepted['return_id']}."
            put_json(accepted) if as_json else put(line)


@app.command()
def show(return_id: Return, home: Home = None, as_json: Json = False) -> None:
    """Show a return as checkout knows it."""
    name = order_id(return_id, "a return's id")
    with running.find(home).api("checkout") as checkout:
        found = checkout.get(f"/v1/returns/{name}")
    put_json(found) if as_json else put("\n".join(_description(found)))


@app.command()
def cancel(return_id: Return, home: Home = None, as_json: Json = False) -> None:
    """Request the cancellation of a return, as its customer would."""
    name = order_id(return_id, "a return's id")
    with running.find(home).api("checkout") as checkout:
        found = checkout.call("POST", f"/v1/returns/{name}/cancel")
    see = command("returns", "show", name, home=home)
    with done(f"The cancellation of {name} was requested all the same. See what became of it: {see}"):
        put_json(found) if as_json else put(_line(found))


@app.command()
def settle(return_id: Return, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Record what was done about pieces that came in a return's parcel besides its own. The audit shows it as settled.

    The return itself stays as it is.
    """
    check_reason(reason)
    name = order_id(return_id, "a return's id")
    with running.find(home).api("shipping") as shipping:
        found = shipping.call("POST", f"/v1/collections/{name}/settle", body={"reason": reason})
    with done(f"The surplus of {name} is settled all the same."):
        put_json(found) if as_json else put(f"{name}  surplus settled by {found['settled_by']}")


def _line(found: dict[str, Any]) -> str:
    return f"{found['return_id']}  {found['state']}  {found['message']}"


def _description(found: dict[str, Any]) -> Iterator[str]:
    from chassis.values.money import shown

    yield _line(found)
    if found.get("failure_cause"):
        yield f"failed      {found['failure_cause']}: {found['failure_reason']}"
    if found.get("reason"):
        yield f"reason      {found['reason']}"
    yield f"order       {found['order_id']}"
    yield f"customer    {found['customer_id']}"
    yield f"requested   {found['requested_at']}"
    if found.get("decided_at"):
        yield f"decided     {found['decided_at']}"
    if found["refund_minor"] or found["points"]:
        points = f" and {found['points']} points" if found["points"] else ""
        yield f"refund      {shown(found['refund_minor'], found['currency'])}{points}"
    received = {line["sku"]: line for line in found["received"] or ()}
    for line in found["lines"]:
        arrived = received.get(line["sku"])
        pieces = f"  arrived: {arrived['good']} good, {arrived['damaged']} damaged" if arrived else ""
        yield f"{line['quantity']:>10} × {line['sku']}  {shown(line['unit_price_minor'], found['currency'])}{pieces}"
