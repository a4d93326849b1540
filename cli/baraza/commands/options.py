"""Options and arguments that several commands share, so that they read alike everywhere."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand, TyperOption
from typer.models import CommandFunctionType

from baraza.terminal import UsageRefusal
from chassis.values.ids import canonical

Home: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="BARAZA_HOME",
        metavar="FOLDER",
        help="Folder of the stack's data and logs.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for scripts.")]
Replicas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--replicas", metavar="SERVICE=NUMBER", help="Number of processes of a service; repeatable."),
]
Order: TypeAlias = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.", show_default=False)]
Saga: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The saga's id, which is that of its order or return, or a number that it refers to.",
        show_default=False,
    ),
]

ORDER_SAGA = "order"
"""The saga of what customers order."""
ID_LENGTH_MAX = 64
DIGITS_MAX = 9
PARTITIONS_MAX = 256
REPLICAS_MAX = 16
"""The stack's own limits, whose modules no --help loads."""
COUNT_MAX = 1_000_000_000
"""The most that any option counts."""
SEED_MAX = 2**32 - 1
RATE_MAX = 1_000_000.0
"""Orders or sagas a second, beyond what any machine has processed."""
SECONDS_MAX = 31 * 86_400.0
"""A month, longer than any measurement or wait lasts."""


class OptionsOnce(TyperCommand):
    """A command that refuses an option given twice: of two values the last one would be believed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the arguments that are left, as the library does."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(given).items():
            if count > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
                ctx.fail(f"Option {option.opts[0]!r} is given {count} times; give it once.")
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of commands of ours."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Return the decorator of a command, as the library does."""
        return super().command(name, cls=OptionsOnce, **settings)


def finite(value: float | None) -> float | None:
    """Return an option's value. Raises BadParameter where it is not a number: no range excludes NaN."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def replicas_of(texts: list[str] | None) -> dict[str, int]:
    """Return the number of processes by service that ``--replicas`` gives. Raises UsageRefusal."""
    replicas: dict[str, int] = {}
    for text in texts or []:
        service, _, number = text.partition("=")
        if not service or not number.isascii() or not number.isdecimal() or len(number) > DIGITS_MAX:
            raise UsageRefusal(f"--replicas {text!r}; write it like payment=2.")
        if service in replicas:
            raise UsageRefusal(f"--replicas gives {service} twice; give each service one number.")
        replicas[service] = int(number)
    return replicas


def order_id(text: str, what: str = "an order's id") -> str:
    """Return the id as it can stand in a URL. Raises UsageRefusal where it is not an id."""
    name = text.strip()
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or len(name) > ID_LENGTH_MAX:
        raise UsageRefusal(f"{text!r} is not {what}, which looks like 01JCZ3K8T0ABCDEFGHJKMNPQRS.")
    return canonical(name)


def command(*words: str, home: Path | None) -> str:
    """Return a command of ours on the stack in ``home``, as it can be pasted into a shell."""
    options = () if home is None else ("--home", str(home))
    return f"./baraza {shlex.join([*words, *options])}"


def as_argument(file: Path) -> str:
    """Return a file as an argument of a command: one whose name begins with a dash would be taken for an option."""
    return f"./{file}" if str(file).startswith("-") and str(file) != "-" else str(file)


def check_reason(reason: str) -> None:
    """Raise UsageRefusal where ``--reason`` is no remark, by the rule that the tracker has."""
    from chassis.values.remark import remark

    if not reason.strip():
        raise UsageRefusal("--reason is empty; give the reason, it is kept for ever.")
    try:
        remark(reason)
    except ValueError as error:
        raise UsageRefusal(f"--reason: {error}.") from error


def check_key(key: str | None) -> None:
    """Raise UsageRefusal where ``--idempotency-key`` is given and is no key."""
    from baraza.storefront.orderfile import KEY_EXPECTED, is_key

    if key is not None and not is_key(key):
        raise UsageRefusal(f"--idempotency-key {key!r}; expected {KEY_EXPECTED}.")
