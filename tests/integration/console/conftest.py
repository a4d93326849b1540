"""One console for all tests of its sign-in; it runs no service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.consoles import RunningConsole, running


@pytest.fixture(scope="package")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found
