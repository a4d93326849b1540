"""Every relative link of the README and the docs leads to a file of the repository, and every anchor to a heading.

The diagram of the order saga is the one of its newest definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from saga_tracker.definitions import DEFINITIONS, newest
from saga_tracker.model.diagram import mermaid

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
"""An inline link of Markdown; its address has neither spaces nor parentheses."""
ELSEWHERE = re.compile(r"[a-z]+:")
"""The scheme of an address outside of the repository."""


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, anchor) for each relative link of a page; the anchor is empty where the link has none."""
    for address in LINK.findall(page.read_text()):
        if not ELSEWHERE.match(address):
            path, _, anchor = address.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_to_a_file_and_its_anchor_to_a_heading(page: Path) -> None:
    for target, anchor in links(page):
        assert target.is_relative_to(ROOT), f"{relative(page)} links to {target}, outside of the repository."
        assert target.exists(), f"{relative(page)} links to {relative(target)}, which does not exist."
        assert not anchor or anchor in anchors(target), f"{relative(target)} has no heading for #{anchor}."


@pytest.mark.parametrize("name", sorted({definition.name for definition in DEFINITIONS.values()}))
def test_the_diagram_is_the_newest_definitions(name: str) -> None:
    page = ROOT / "docs" / "generated" / f"{name}.mmd"
    assert page.read_text().strip() == mermaid(newest(name)).strip(), (
        f"Run ./baraza saga show {name} --mermaid > {relative(page)}."
    )


def test_every_decision_is_in_the_index() -> None:
    index = ROOT / "docs" / "decisions" / "README.md"
    pages = {page for page in index.parent.glob("*.md") if page != index}
    assert pages == {target for target, _ in links(index)}


def test_the_index_names_each_decision_as_its_page_does() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    rows = dict(re.findall(r"^\| \[\d+\]\(([^)]+)\) \| (.+) \|$", index, re.MULTILINE))
    titles = {
        page.name: page.read_text().splitlines()[0].partition(". ")[2]
        for page in (ROOT / "docs" / "decisions").glob("0*.md")
    }
    assert rows == titles
