"""``baraza bench``: the throughput and latency of the stack on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.bench.arrivals import Arrivals
from baraza.commands.options import (
    COUNT_MAX,
    PARTITIONS_MAX,
    REPLICAS_MAX,
    SECONDS_MAX,
    Json,
    Replicas,
    finite,
    replicas_of,
)
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, put, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.bench.comparison import Ratio
    from baraza.bench.measurement import Measured
    from baraza.bench.modes import Run


WARM_UP_S = 45.0
"""Until Kafka's code is compiled, statements are prepared and tables have free pages."""


class ModeName(StrEnum):
    """The benchmarks."""

    PEERS = "peers"
    STEADY = "steady"
    HTTP = "http"
    REAL = "real"
    INTAKE = "intake"
    SPIKE = "spike"
    SCALE = "scale"
    QUERIES = "queries"
    LEDGER = "ledger"
    PAYMENTS = "payments"
    RECONCILIATION = "reconciliation"
    SACCO = "sacco"
    CONSOLE = "console"
    COMPARE = "compare"


Mode = Annotated[ModeName, typer.Argument(help="The benchmark to run.", show_default=False)]
Revision = Annotated[
    str | None,
    typer.Argument(help="compare: the git revision that this checkout is compared with.", show_default=False),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds", min=1.0, max=SECONDS_MAX, callback=finite, metavar="NUMBER", help="How long each load is measured."
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        min=1,
        max=PARTITIONS_MAX,
        metavar="NUMBER",
        help="Partitions of each topic.",
        show_default=False,
    ),
]
Sizes = Annotated[
    list[int],
    typer.Option(
        "--size",
        min=1,
        max=COUNT_MAX,
        metavar="NUMBER",
        help="scale, queries: sagas in the tables; console: sagas in the tracker's; ledger: entries; "
        "reconciliation: payments; repeatable.",
    ),
]
Processes = Annotated[
    list[int],
    typer.Option(
        "--processes", min=1, max=REPLICAS_MAX, metavar="NUMBER", help="scale: processes of each service; repeatable."
    ),
]
SpikeSeconds = Annotated[
    float,
    typer.Option(
        "--spike-seconds",
        min=1.0,
        max=SECONDS_MAX,
        callback=finite,
        metavar="NUMBER",
        help="spike: how long the full load lasts.",
    ),
]
Profiled = Annotated[
    bool,
    typer.Option(
        "--profile", help="peers, payments, sacco: measure once more under py-spy, and show the cost by part."
    ),
]
WarmUp = Annotated[
    float,
    typer.Option(
        "--warm-up",
        min=0.0,
        max=SECONDS_MAX,
        callback=finite,
        metavar="SECONDS",
        help="How long full load runs before it is measured.",
    ),
]
Arrival = Annotated[Arrivals, typer.Option("--arrivals", help="How the orders of a fixed rate arrive.")]
Intervals = Annotated[
    int,
    typer.Option(
        "--intervals", min=1, max=COUNT_MAX, metavar="PAIRS", help="compare: pairs of runs, of one version each."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=0.0,
        max=SECONDS_MAX / 60,
        callback=finite,
        metavar="NUMBER",
        help="compare: begin no further pair after that.",
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt connections to Kafka, as `baraza up` does.")]


def bench(
    mode: Mode,
    revision: Revision = None,
    seconds: Seconds = 20.0,
    partitions: Partitions = None,
    replicas: Replicas = None,
    sizes: Sizes = [10_000, 100_000, 1_000_000],  # noqa: B006 - typer copies it
    processes: Processes = [1, 2, 4],  # noqa: B006
    spike_s: SpikeSeconds = 90.0,
    profiled: Profiled = False,
    warm_up_s: WarmUp = WARM_UP_S,
    arrivals: Arrival = Arrivals.POISSON,
    pairs: Intervals = 6,
    minutes: Minutes = None,
    tls: Tls = False,
    as_json: Json = False,
) -> None:
    """Measure the throughput and latency of a separate stack on this machine, then audit it.

    `compare REVISION` runs this checkout and a revision alternately, and prints the ratio of their figures. Exit status
    1 if the audit is red, or requests of one key made two payments: figures of work that was not done correctly do not
    count.
    """
    from baraza.bench.modes import Run
    from baraza.bench.session import Settings

    if (mode is ModeName.COMPARE) != (revision is not None):
        raise UsageRefusal("`bench compare` takes a git revision, such as `bench compare HEAD~1`; no other mode does.")
    if revision is not None:
        _compare(revision, seconds, warm_up_s, arrivals, pairs, minutes, as_json=as_json)
        return
    settings = Settings(partitions=partitions, replicas=replicas_of(replicas), tls=tls, arrivals=arrivals)
    run = Run(
        settings=settings, seconds=seconds, sizes=sorted(sizes), processes=processes, spike_s=spike_s,
        profiled=profiled, warm_up_s=warm_up_s,
    )  # fmt: skip
    _measure(mode, run, as_json=as_json)


def _measure(mode: ModeName, run: Run, *, as_json: bool) -> None:
    from baraza.bench import modes

    result = _result(mode, modes.MODES[mode.value](run), run)
    _show(result, run.measured)
    if as_json:
        put_json(result)
    _check(run)


def _compare(
    revision: str,
    seconds: float,
    warm_up_s: float,
    arrivals: Arrivals,
    pairs_max: int,
    minutes: float | None,
    *,
    as_json: bool,
) -> None:
    from baraza.bench import comparison, machine, revisions

    plan = revisions.Plan(
        seconds=seconds,
        warm_up_s=warm_up_s,
        arrivals=arrivals,
        pairs_max=pairs_max,
        seconds_max=None if minutes is None else 60 * minutes,
    )
    pairs = []
    for pair in revisions.compared(revision, plan):
        pairs.append(pair)
        _show_ratios(comparison.ratios(pairs), revision)
    if as_json:
        ratios = {each.figure: each.to_json() for each in comparison.ratios(pairs)}
        runs = [{"this": this, "other": other} for this, other in pairs]
        put_json({"revision": revision, "ratios": ratios, "pairs": runs, "machine": machine.machine()})


def _show_ratios(ratios: Sequence[Ratio], revision: str) -> None:
    columns = ("this", revision, "ratio", "lowest", "highest", "pairs")
    rows = [
        (
            each.figure,
            f"{each.this:.2f}",
            f"{each.other:.2f}",
            *(f"{ratio:.2f}" for ratio in (each.median, each.lowest, each.highest)),
            each.pairs,
        )
        for each in ratios
    ]
    put_table(("figure", *columns), rows, right=columns)


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


def _check(run: Run) -> None:
    broken = {each.invariant.name for report in run.reports for each in report.findings if each.total}
    if broken:
        notify(f"The audit is red: {', '.join(sorted(broken))}.")
    for failure in run.failures:
        notify(failure)
    if broken or run.failures:
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
    figures = ("sagas/s", "p50 ms", "p99 ms", "confirmed", "cancelled", "CPU ms/saga", "cores for others", "repeated")
    rows = [
        (
            each.name,
            f"{each.per_s:.1f}",
            each.quantile_ms(0.50),
            each.quantile_ms(0.99),
            each.confirmed,
            each.cancelled,
            f"{each.cpu_ms_per_saga:.2f}",
            f"{each.others_cores:.2f}",
            each.repeated,
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
