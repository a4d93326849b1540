"""A real Chromium for tests: the system's, or Debian's with its libraries from the cache; and what it complains about.

Without one the tests fail, they never skip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from stack import debian
from stack.settings import from_environment

PACKAGES = ("chromium", "fonts-dejavu-core")
NAMES = ("chromium", "chromium-browser", "google-chrome")
LAUNCH_WITHIN_MS = 180_000
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
"""Root has no sandbox; machines of continuous integration have neither a GPU nor a large /dev/shm."""
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir>
<alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias></fontconfig>
"""


@contextmanager
def chromium(scratch: Path) -> Iterator[Browser]:
    """Start a browser; its first start on a machine may download it."""
    path, environment = _program(scratch)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(path), args=list(ARGUMENTS), env=environment, timeout=LAUNCH_WITHIN_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def _program(scratch: Path) -> tuple[Path, dict[str, str | float | bool]]:
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


def complaints_of(page: Page) -> list[str]:
    """Return the list to which everything is added that the page complains about: errors, and violations of its policy.

    Chromium reports an answer of 400 and above as an error of the console as well, of a page and of a file.
    """
    found: list[str] = []

    def on_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.append(f"{message.type}: {message.text}")

    page.on("console", on_message)
    page.on("pageerror", lambda error: found.append(f"page error: {error}"))
    return found
