"""Input files: each flaw is refused with its line, its column and what is expected there."""

from __future__ import annotations

from pathlib import Path

import pytest

from baraza.storefront import orderfile, tabular
from baraza.storefront.seed import CATALOGUE
from baraza.terminal import UsageRefusal

HEAD = b"sku,name,price_minor,currency,stock\n"


def written(folder: Path, content: bytes) -> Path:
    """Return a file with this content."""
    path = folder / "input"
    path.write_bytes(content)
    return path


def test_a_catalogue_is_read_line_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + HEAD + b'tea,"Tea, green",1299,USD,10\r\nmilk,Milk,99,USD,0\n')

    assert list(tabular.records(path, CATALOGUE, key="sku")) == [
        {"sku": "tea", "name": "Tea, green", "price_minor": 1299, "currency": "USD", "stock": 10},
        {"sku": "milk", "name": "Milk", "price_minor": 99, "currency": "USD", "stock": 0},
    ]


def test_a_blank_before_a_quote_belongs_to_no_name(tmp_path: Path) -> None:
    path = written(tmp_path, b'sku, name, price_minor, currency, stock\n"A-1", "Elm, red", 1, USD, 1\n')

    (record,) = tabular.records(path, CATALOGUE, key="sku")

    assert (record["sku"], record["name"]) == ("A-1", "Elm, red")


def test_an_empty_line_in_a_catalogue_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + b"tea,Tea,1,USD,1\n\nmilk,Milk,1,USD,1\n\n")

    assert [record["sku"] for record in tabular.records(path, CATALOGUE, key="sku")] == ["tea", "milk"]


def test_the_empty_lines_that_excel_leaves_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + b"tea,Tea,1,USD,1\r\n,,,,\r\n , ,,,\r\n")

    assert [record["sku"] for record in tabular.records(path, CATALOGUE, key="sku")] == ["tea"]


def test_the_empty_columns_that_excel_leaves_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD.rstrip() + b",,\r\ntea,Tea,1,USD,1,,\r\nmilk,Milk,1,USD,1, \r\n")

    assert [record["sku"] for record in tabular.records(path, CATALOGUE, key="sku")] == ["tea", "milk"]


def test_a_byte_order_mark_changes_no_derived_key(tmp_path: Path) -> None:
    plain = [each.key for each in orderfile.read(written(tmp_path, b"{}\n"))]
    assert [each.key for each in orderfile.read(written(tmp_path, b"\xef\xbb\xbf{}\r\n"))] == plain


def test_a_byte_order_mark_before_orders_is_skipped(tmp_path: Path) -> None:
    assert [each.key for each in orderfile.read(written(tmp_path, b'\xef\xbb\xbf{"idempotency_key": "k"}\n'))] == ["k"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty; its first line must be sku,name,price_minor,currency,stock"),
        (b"name,sku\n", "starts with 'name,sku'; its first line must be"),
        (HEAD + b"tea,Tea,1299,USD\n", "line 2: 4 fields, expected 5"),
        (HEAD + b"tea,Tea,12.99,USD,1\n", "line 2, column price_minor: '12.99'; expected a whole number"),
        (HEAD + b"tea,Tea,1299,usd,1\n", "line 2, column currency: 'usd'; expected three capital letters"),
        (HEAD + b"tea,Tea,1299,USD,-1\n", "line 2, column stock: '-1'; expected a whole number"),
        (HEAD + b"tea,Tea,1,USD,1\n,Milk,1,USD,1\n", "line 3, column sku: ''; expected a text"),
        (HEAD + b"tea,Tea,1,USD,1\ntea,Tea,2,USD,1\n", "line 3: sku 'tea' is on line 2 already"),
        (HEAD + b'tea,"Tea,1,USD,1\n', "unexpected end of data"),
        (HEAD + b'tea,"Tea,1,USD,1\n' + b"milk,Milk,1,USD,1\n" * 3, "line 2: a quote that opens on this line is not"),
        (HEAD + b'tea,"Tea\ngreen",1,USD,1\n', "It has a line break; write it on one line."),
        (HEAD + b'tea,"Tea\ngreen",1,USD,1\n', "line 2, column name"),
        (HEAD + b'tea,"Tea,1,USD,1\nmilk,Milk"\n', "line 2: 2 fields, expected 5"),
        (HEAD + b"tea,Tea,1,USD,1,,x\n", "line 2: 7 fields, expected 5"),
        (HEAD.replace(b",", b";"), "its first line must be sku,name,price_minor,currency,stock, with commas"),
        (HEAD + b"tea,\xe2\x80\x8b,1,USD,1\n", "Blank; it must have a character that can be seen."),
        (HEAD + b"t\xe2\x80\x8ba,Tea,1,USD,1\n", "Character 2 (U+200B) cannot be seen; remove it."),
        (HEAD + b"tea,Tea,1,ZZZ,1\n", "'ZZZ'; expected three capital letters, such as USD. Not a currency of ISO 4217"),
        (HEAD + "caf\u00e9,A,1,USD,1\ncafe\u0301,A,1,USD,1\n".encode(), "line 3: sku 'caf\u00e9' is on line 2 already"),
        (HEAD + b"t\xe9,Tea,1,USD,1\n", ", line 2, byte 2 is not UTF-8; save the file as UTF-8."),
        (HEAD + b"t\x00,Tea,1,USD,1\n", "line 2, column sku: 't\\x00'; expected a text"),
        (HEAD + b"tea,Tea,10000000001,USD,1\n", "line 2, column price_minor: '10000000001'; expected a whole number"),
        (HEAD + b"tea,Tea,1,USD,1000000001\n", "line 2, column stock: '1000000001'; expected a whole number"),
        (HEAD + b"tea,Tea,1,USD," + b"9" * 5_000 + b"\n", "line 2, column stock: '999"),
    ],
)
def test_a_flaw_in_a_catalogue_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(UsageRefusal) as refusal:
        list(tabular.records(written(tmp_path, content), CATALOGUE, key="sku"))

    assert expected in str(refusal.value)


def test_a_byte_that_is_no_utf8_is_named_by_its_line_far_into_a_file(tmp_path: Path) -> None:
    lines = b"".join(b"tea-%d,Tea,1,USD,1\n" % number for number in range(3_000))
    with pytest.raises(UsageRefusal, match="line 3002, byte 4 is not UTF-8"):
        list(tabular.records(written(tmp_path, HEAD + lines + b"caf\xe9,A,1,USD,1\n"), CATALOGUE, key="sku"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageRefusal, match="cannot be read: no such file or directory"):
        list(tabular.records(tmp_path / "nowhere.csv", CATALOGUE, key="sku"))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageRefusal, match="is a directory"):
        list(orderfile.read(tmp_path))


def test_orders_are_read_line_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"idempotency_key":"k","submitted_at":"2017-01-01T11:53:26Z","currency":"USD"}\n\n{}\n')

    named, unnamed = orderfile.read(path)

    assert (named.key, named.body) == ("k", {"currency": "USD"})
    assert unnamed.body == {}
    assert unnamed.key != named.key


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{}\n{'a': 1}\n", "line 2, column 2"),
        (b"[]\n", "line 1: list; expected a JSON object"),
        (b'{"idempotency_key": 7}\n', "line 1, idempotency_key: 7; expected 1 to 128"),
        (b'{"idempotency_key": "a b"}\n', "line 1, idempotency_key: 'a b'"),
        (b'{"submitted_at": "yesterday"}\n', "line 1, submitted_at: 'yesterday'; expected a time such as"),
        (b'{"a": "\xe9"}\n', "line 1: not UTF-8"),
        (b'{"points_to_burn": NaN}\n', "line 1: contains NaN"),
        (b'{"currency": "USD", "currency": "EUR"}\n', 'line 1: The member "currency" is given twice'),
        (b'{"points_to_burn": ' + b"9" * 5_000 + b"}\n", "line 1: A number has 5000 digits"),
        (b'{"customer_id": "\\ud800"}\n', "line 1: contains NaN, an infinite number or half a character"),
        (b"[" * 100_000, "line 1, nested too deeply"),
        (b" " * (orderfile.LINE_BYTES_MAX + 1), "line 1: longer than 1048576 bytes"),
    ],
)
def test_a_flaw_in_orders_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(UsageRefusal) as refusal:
        list(orderfile.read(written(tmp_path, content)))

    assert expected in str(refusal.value)
