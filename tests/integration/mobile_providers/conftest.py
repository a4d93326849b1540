"""One process of each provider for all tests here; each test begins with empty books."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.mobile_providers import Daraja, Momo, daraja, momo


@pytest.fixture(scope="session")
def _daraja(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daraja]:
    with daraja(tmp_path_factory.mktemp("daraja")) as made:
        yield made


@pytest.fixture
def provider(_daraja: Daraja) -> Daraja:
    _daraja.begin_anew()
    return _daraja


@pytest.fixture(scope="session")
def _momo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Momo]:
    with momo(tmp_path_factory.mktemp("momo")) as made:
        yield made


@pytest.fixture
def other(_momo: Momo) -> Momo:
    _momo.begin_anew()
    return _momo
