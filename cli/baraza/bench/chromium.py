"""A real Chromium, driven by Playwright: the system's, or Debian's with its libraries from the cache.

Playwright is a dependency of development alone, so it is imported where it is used, and its absence is explained.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baraza.terminal import Refusal
from stack import debian
from stack.settings import from_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PACKAGES: Final = ("chromium", "fonts-dejavu-core")
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
LAUNCH_WITHIN_MS: Final = 180_000
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
"""Root has no sandbox; machines of continuous integration have neither a GPU nor a large /dev/shm."""
FONTS: Final = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir>
<alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias></fontconfig>
"""
MISSING: Final = (
    "Pages are opened in Chromium by Playwright, which is not installed here. It is a dependency of development: run "
    "this in a checkout, whose ./baraza installs it, or install the package playwright (its browsers are not needed)."
)


def check() -> None:
    """Raise Refusal where Playwright is not installed."""
    try:
        import playwright  # noqa: F401
    except ModuleNotFoundError as error:
        raise Refusal(MISSING) from error


@contextmanager
def chromium(scratch: Path) -> Iterator[Browser]:
    """Start a browser; its first start on a machine may download it. Raises Refusal, StackError."""
    check()
    from playwright.sync_api import sync_playwright

    path, environment = _program(scratch)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(path), args=list(ARGUMENTS), env=environment, timeout=LAUNCH_WITHIN_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def _program(scratch: Path) -> tuple[Path, dict[str, str | float | bool]]:
    """Return the path of a Chromium, and the environment in which it finds its libraries and fonts."""
    inherited = ("PATH", "HOME", "TMPDIR", "LANG")
    environment: dict[str, str | float | bool] = {name: os.environ[name] for name in inherited if name in os.environ}
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found), environment
    root = debian.fetch_with_libraries(PACKAGES, from_environment(os.environ).cache)
    fonts = scratch / "fonts.conf"
    fonts.write_text(FONTS.format(fonts=root / "usr" / "share" / "fonts", cache=scratch / "fonts"))
    libraries = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu/pulseaudio")]
    environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    environment["FONTCONFIG_FILE"] = str(fonts)
    return root / "usr" / "lib" / "chromium" / "chromium", environment
