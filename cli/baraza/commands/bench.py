"""``baraza bench``: the throughput and latency of the stack on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import Json, Replicas, replicas_of
from baraza.terminal import FOUND_A_PROBLEM, notify, put, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.audit.report import Report
    from baraza.bench.measurement import Measured
    from baraza.bench.modes import Run


class ModeName(StrEnum):
    """The benchmarks."""

    PEERS = "peers"
    HTTP = "http"
    REAL = "real"
    INTAKE = "intake"
    SPIKE = "spike"
    SCALE = "scale"
    QUERIES = "queries"


Mode = Annotated[ModeName, typer.Argument(help="The benchmark to run.", show_default=False)]
Seconds = Annotated[float, typer.Option("--seconds", min=1.0, metavar="NUMBER", help="How long each load is measured.")]
Partitions = Annotated[
    int | None,
    typer.Option("--partitions", min=1, metavar="NUMBER", help="Partitions of each topic.", show_default=False),
]
Sizes = Annotated[
    list[int],
    typer.Option("--size", min=1, metavar="SAGAS", help="scale, queries: sagas in the tables; repeatable."),
]
Processes = Annotated[
    list[int],
    typer.Option("--processes", min=1, metavar="NUMBER", help="scale: processes of each service; repeatable."),
]
SpikeSeconds = Annotated[
    float, typer.Option("--spike-seconds", min=1.0, metavar="NUMBER", help="spike: how long the full load lasts.")
]
Profiled = Annotated[
    bool, typer.Option("--profile", help="peers: measure once more under py-spy, and show the cost by part.")
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt connections to Kafka, as `baraza up` does.")]


def bench(
    mode: Mode,
    seconds: Seconds = 20.0,
    partitions: Partitions = None,
    replicas: Replicas = None,
    sizes: Sizes = [10_000, 100_000, 1_000_000],  # noqa: B006 - typer copies it
    processes: Processes = [1, 2, 4],  # noqa: B006
    spike_s: SpikeSeconds = 90.0,
    profiled: Profiled = False,
    tls: Tls = False,
    as_json: Json = False,
) -> None:
    """Measure the throughput and latency of a separate stack on this machine, then audit it.

    Exit status 1 if the audit is red: figures of work that was not done correctly do not count.
    """
    from baraza.bench import modes
    from baraza.bench.session import Settings

    run = modes.Run(
        settings=Settings(partitions=partitions, replicas=replicas_of(replicas), tls=tls),
        seconds=seconds,
        sizes=sorted(sizes),
        processes=processes,
        spike_s=spike_s,
        profiled=profiled,
    )
    result = _result(mode, modes.MODES[mode.value](run), run)
    _show(result, run.measured)
    if as_json:
        put_json(result)
    _check(run.reports)


def _result(mode: ModeName, summary: dict[str, Any], run: Run) -> dict[str, Any]:
    from baraza.bench import machine

    return {
        **summary,
        "audit": "green" if all(report.is_green for report in run.reports) else "red",
        "mode": mode.value,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "loads": [each.to_json() for each in run.measured],
        "stacks": run.stacks,
    }


def _check(reports: Sequence[Report]) -> None:
    broken = {each.invariant.name for report in reports for each in report.findings if each.total}
    if broken:
        notify(f"The audit is red: {', '.join(sorted(broken))}.")
        stop(FOUND_A_PROBLEM)


def _show(result: dict[str, Any], measured: list[Measured]) -> None:
    machine = result["machine"]
    put(f"{machine['processor']}, {machine['cores_usable']} cores, {machine['memory_gb']} GB, {machine['system']}")
    figures = [(name, value) for name, value in result.items() if isinstance(value, int | float | str)]
    put_table(("figure", "value"), figures, right=("value",))
    if measured:
        _show_loads(measured)
        _show_processes(measured[0], result["stacks"][0]["memory_peak_mb"])
        _show_parts(measured)


def _show_loads(measured: list[Measured]) -> None:
    figures = ("sagas/s", "p50 ms", "p99 ms", "confirmed", "cancelled", "CPU ms/saga")
    rows = [
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
    ]
    put_table(("load", *figures), rows, right=figures)


def _show_processes(full: Measured, peaks_mb: dict[str, float]) -> None:
    figure, sagas = f"CPU ms/saga, {full.name}", max(1, full.sagas)
    rows = [
        (name, f"{1_000 * used_s / sagas:.3f}", peaks_mb.get(name))
        for name, used_s in sorted(full.cpu_s.items(), key=lambda pair: -pair[1])
    ]
    rows.append(("the load itself", f"{1_000 * full.load_cpu_s / sagas:.3f}", None))
    put_table(("process", figure, "peak MB"), rows, right=(figure, "peak MB"))


def _show_parts(measured: list[Measured]) -> None:
    for each in measured:
        if parts_ms := each.parts_ms():
            figure = f"CPU ms/saga, {each.name}"
            put_table(("part", figure), list(parts_ms.items()), right=(figure,))
