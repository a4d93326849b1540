"""The filters of the console's list: what of an address is one, and that a saved query leads nowhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.pages.filters import FIELDS_MAX, FILTERS, LIST, address, parsed, query_of


@given(st.text(max_size=200))
def test_whatever_was_saved_the_address_is_the_list_with_known_filters(query: str) -> None:
    try:
        found = parsed(query)
    except ValueError:
        return
    assert set(found) <= set(FILTERS)
    url = urlsplit(address(LIST, found))
    assert (url.scheme, url.netloc, url.path, url.fragment) == ("", "", LIST, "")


@given(
    st.dictionaries(
        st.sampled_from(FILTERS), st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=1), max_size=6
    )
)
def test_what_is_saved_is_read_again_as_it_was(filters: dict[str, list[str]]) -> None:
    kept = {name: [text.strip() for text in texts] for name, texts in filters.items()}
    try:
        query = query_of(kept)
    except UnicodeEncodeError:
        return  # half a character, which no form sends
    assert parsed(query) == kept
    assert query_of(parsed(query)) == query


def test_the_order_in_which_filters_were_given_makes_no_other_view() -> None:
    assert query_of(parsed("type=order&state=PENDING")) == query_of(parsed("state=PENDING&type=order"))


def test_of_a_filter_with_one_value_the_last_counts_and_blanks_are_none() -> None:
    assert parsed("subject=a&subject=b&step=%20&state=PENDING&state=CONFIRMED") == {
        "state": ["PENDING", "CONFIRMED"], "subject": ["b"]
    }  # fmt: skip


def test_a_query_of_too_many_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="fields"):
        parsed("&".join(["state=PENDING"] * (FIELDS_MAX + 1)))
