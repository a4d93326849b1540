"""Databases restored from a backup while everything else went on: Kafka has what they missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chassis.postgres import migrations
from stack import InvalidSettings
from support.shop import CONNECTIONS, SCARCE, PlacedOrder, Shop

UNITS_AN_ORDER = 4
FOR_ORDERS = 8
ORDERS = 24


def place(shop: Shop, count: int, *, code: str = "") -> list[PlacedOrder]:
    """Submit ``count`` orders for the scarce product in parallel, with points."""
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return list(threads.map(lambda _: shop.place(sku=SCARCE, points=2, postal_code=code), range(count)))


@pytest.mark.parametrize("service", ["inventory", "payment"])
def test_a_restored_service_recovers_what_it_has_published(shop: Shop, service: str, tmp_path: Path) -> None:
    shop.move(SCARCE, FOR_ORDERS * UNITS_AN_ORDER, kind="received")
    try:
        place(shop, FOR_ORDERS // 4)
        shop.stack.backup(service, tmp_path / "dump")
        # Some get units that compensated orders give back; most get none.
        shop.fault("courier", operation="book", kind="reject", match="nowhere")
        missed = [*place(shop, FOR_ORDERS // 2, code="nowhere"), *place(shop, ORDERS)]
        ended = {order.order_id: shop.outcome(order.order_id)["saga"]["state"] for order in missed}
        assert len(set(ended.values())) == 2, ended
        since = shop.stack.restore(service, tmp_path / "dump")
        waiting = place(shop, FOR_ORDERS)
        shop.stack.reconcile(service, since)
        for order in waiting:
            shop.outcome(order.order_id)
        assert {order_id: shop.outcome(order_id)["saga"]["state"] for order_id in ended} == ended
    finally:
        shop.sell_out(SCARCE)


def test_a_backup_of_another_service_or_none_is_refused_and_nothing_is_stopped(shop: Shop, tmp_path: Path) -> None:
    running = shop.stack.process_ids()
    shop.stack.backup("loyalty", tmp_path / "loyalty.dump")
    (tmp_path / "junk").write_text("junk")
    shop.stack.backup("inventory", tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    # Its list and its revision are still there.
    (tmp_path / "cut off").write_bytes(whole[: len(whole) - 200])
    for name, reason in (
        ("cut off", "is no whole backup"),
        ("loyalty.dump", "is a backup of loyalty, not of inventory"),
        ("junk", "is no whole backup"),
        ("nowhere", "is not a file"),
    ):
        with pytest.raises(InvalidSettings, match=reason):
            shop.stack.restore("inventory", tmp_path / name)
    assert shop.stack.process_ids() == running


def test_a_backup_of_another_revision_is_refused(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stack.backup("inventory", tmp_path / "dump")
    monkeypatch.setattr(migrations, "newest", lambda _package: "9999")
    with pytest.raises(InvalidSettings, match="this release has 9999; nothing was changed"):
        shop.stack.restore("inventory", tmp_path / "dump")


def test_a_backup_replaces_only_its_own_file_and_only_its_owner_can_read_it(shop: Shop, tmp_path: Path) -> None:
    beside = tmp_path / "dump.new"
    beside.write_text("mine")
    shop.stack.backup("inventory", tmp_path / "dump")
    assert beside.read_text() == "mine"
    assert (tmp_path / "dump").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "dump.new"]


def test_a_backup_into_a_folder_leaves_nothing_behind(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="is a folder"):
        shop.stack.backup("inventory", tmp_path)
    assert [*tmp_path.iterdir(), *tmp_path.parent.glob(f"{tmp_path.name}*")] == [tmp_path]
