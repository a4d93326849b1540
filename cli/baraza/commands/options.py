"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Home: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--home", envvar="BARAZA_HOME", metavar="FOLDER", help="Where the stack keeps everything.", show_default=False
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for scripts.")]
