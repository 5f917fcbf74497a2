"""The built site on a server of its own, and a browser; for ``make docs-test`` alone."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SITE = Path(__file__).parents[2] / "build" / "docs"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without a sandbox because CI runs as root; the browser opens nothing but our own pages.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# "make test" has no browser to drive.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["test_browser.py"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """A request is no news."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Says what went wrong, unless the browser left for the next page before it had everything."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built site, with a slash at its end."""
    if not (SITE / "index.html").is_file():
        pytest.exit("The site is not built: run make docs", returncode=1)
    handler = functools.partial(_Handler, directory=str(SITE))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, from CHROMIUM or the PATH."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.exit(
            f"make docs-test needs Chromium or Chrome: none of {', '.join(CHROMIUM)} is on the PATH. "
            "Install one (Debian: apt-get install chromium) or name it: make docs-test CHROMIUM=/path/to/chromium",
            returncode=1,
        )
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()
