"""``baraza bench``: how fast the stack is on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import Json
from baraza.commands.stack import replicas_of
from baraza.terminal import FOUND_A_PROBLEM, put, put_json, put_table, say, stop

if TYPE_CHECKING:
    from baraza.bench.session import Measured


class ModeName(StrEnum):
    """What can be measured."""

    PEERS = "peers"
    HTTP = "http"
    REAL = "real"
    INTAKE = "intake"
    SPIKE = "spike"
    SCALE = "scale"
    QUERIES = "queries"


def bench(
    mode: Annotated[ModeName, typer.Argument(help="What to measure.", show_default=False)],
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, metavar="NUMBER", help="How long each load is measured.")
    ] = 20.0,
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, metavar="NUMBER", help="Of each topic.", show_default=False)
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="SERVICE=NUMBER", help="How many processes of a service; may be repeated."),
    ] = None,
    sizes: Annotated[
        list[int],
        typer.Option("--size", min=1, metavar="SAGAS", help="scale, queries: how many are in the tables; ascending."),
    ] = [10_000, 100_000, 1_000_000],  # noqa: B006 - typer copies it
    processes: Annotated[
        list[int], typer.Option("--processes", min=1, metavar="NUMBER", help="scale: of each service.")
    ] = [1, 2, 4],  # noqa: B006
    spike_s: Annotated[
        float, typer.Option("--spike-seconds", min=1.0, metavar="NUMBER", help="spike: how long it is full.")
    ] = 90.0,
    profiled: Annotated[
        bool, typer.Option("--profile", help="peers: measure once more under py-spy, and show the cost of each part.")
    ] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt connections to Kafka, as `baraza up` does.")] = False,
    as_json: Json = False,
) -> None:
    """Measure how fast a stack of its own is on this machine, and audit it afterwards.

    Exit status 1 where the audit finds anything: a figure of work that was not done right is none.
    """
    from baraza.bench import machine, modes
    from baraza.bench.session import Settings

    run = modes.Run(
        settings=Settings(partitions=partitions, replicas=replicas_of(replicas or []), tls=tls),
        seconds=seconds,
        sizes=sorted(sizes),
        processes=processes,
        spike_s=spike_s,
        profiled=profiled,
    )
    summary = modes.MODES[mode.value](run)
    is_green = all(report.is_green for report in run.reports)
    result: dict[str, Any] = {
        **summary,
        "audit": "green" if is_green else "red",
        "mode": mode.value,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "loads": [each.to_json() for each in run.measured],
        "stacks": run.stacks,
    }
    show(result, run.measured)
    if as_json:
        put_json(result)
    if not is_green:
        broken = {each.invariant.name for report in run.reports for each in report.findings if each.total}
        say(f"The audit is red: {', '.join(sorted(broken))}.")
        stop(FOUND_A_PROBLEM)


def show(result: dict[str, Any], measured: list[Measured]) -> None:
    """Write the figures for a person."""
    machine = result["machine"]
    put(f"{machine['processor']}, {machine['cores_usable']} cores, {machine['memory_gb']} GB, {machine['system']}")
    figures = [(name, value) for name, value in result.items() if isinstance(value, int | float | str)]
    put_table(("figure", "value"), figures, right=("value",))
    if measured:
        show_loads(result, measured)


def show_loads(result: dict[str, Any], measured: list[Measured]) -> None:
    """Write what each load came to, and what each process used under the first."""
    put_table(
        ("load", "sagas/s", "p50 ms", "p99 ms", "confirmed", "cancelled", "CPU ms/saga"),
        [
            (
                each.name,
                f"{each.per_s:.1f}",
                each.quantile_ms(0.50),
                each.quantile_ms(0.99),
                each.confirmed,
                each.cancelled,
                f"{each.cpu_ms_per_saga:.2f}",
            )
            for each in measured
        ],
        right=("sagas/s", "p50 ms", "p99 ms", "confirmed", "cancelled", "CPU ms/saga"),
    )
    peaks_mb = result["stacks"][0]["memory_peak_mb"]
    full = measured[0]
    sagas = max(1, full.sagas)
    put_table(
        ("process", f"CPU ms/saga, {full.name}", "peak MB"),
        [
            (name, f"{1_000 * used / sagas:.3f}", peaks_mb.get(name))
            for name, used in sorted(full.cpu_s.items(), key=lambda pair: -pair[1])
        ]
        + [("the load itself", f"{1_000 * full.load_cpu_s / sagas:.3f}", None)],
        right=(f"CPU ms/saga, {full.name}", "peak MB"),
    )
    for each in measured:
        if parts_ms := each.parts_ms():
            figure = f"CPU ms/saga, {each.name}"
            put_table(("part", figure), list(parts_ms.items()), right=(figure,))
