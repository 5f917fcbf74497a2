"""The built site in a real browser: light and dark, narrow and wide, from a server and from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.site.conftest import SITE

PAGES = sorted(
    path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if SITE / "_static" not in path.parents
)
NARROWEST, NARROW, MIDDLE, WIDE = 320, 390, 1000, 1440


@contextmanager
def opened(
    browser: Browser, site: str, *, scheme: Literal["light", "dark"] = "light", width: int = WIDE
) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the list of what went wrong on it: requests that leave the site, failures, console errors."""
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        wrong: list[str] = []
        context.on(
            "request", lambda one: one.url.startswith((site, "data:")) or wrong.append(f"asks {one.url}")
        )
        # What is still loading when the next page is opened is aborted by the browser.
        context.on(
            "requestfailed",
            lambda one: one.failure == "net::ERR_ABORTED" or wrong.append(f"{one.failure}: {one.url}"),
        )
        context.on(
            "response", lambda one: one.ok or one.status == 304 or wrong.append(f"{one.status} {one.url}")
        )
        context.on(
            "console", lambda one: one.type in ("error", "warning") and wrong.append(f"console: {one.text}")
        )
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        yield page, wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        *(("light", width) for width in (NARROWEST, NARROW, MIDDLE, WIDE)),
        *(("dark", width) for width in (NARROW, WIDE)),
    ],
)
def test_every_page_shows(browser: Browser, site: str, scheme: Literal["light", "dark"], width: int) -> None:
    """Every page has the reader's colours, fits the window, shows its images and asks nobody else for anything."""
    assert len(PAGES) > 40
    with opened(browser, site, scheme=scheme, width=width) as (page, wrong):
        for name in PAGES:
            page.goto(site + name)
            shown = page.evaluate(
                """() => ({
                    theme: document.documentElement.dataset.theme,
                    wide: [document.documentElement, document.querySelector('.bd-article-container')]
                        .filter(e => e && e.scrollWidth > e.clientWidth + 1).map(e => e.className || e.tagName),
                    header: [...document.querySelectorAll('.bd-header .nav-link, .bd-header button')]
                        .filter(e => e.getBoundingClientRect().right > innerWidth).length,
                    images: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
                    ink: getComputedStyle(document.body).color,
                    paper: getComputedStyle(document.body).backgroundColor,
                })"""
            )
            assert (name, shown["theme"], shown["wide"], shown["header"], shown["images"]) == (
                name,
                scheme,
                [],
                0,
                [],
            )
            ink, paper = brightness(shown["ink"]), brightness(shown["paper"])
            assert (paper - ink if scheme == "light" else ink - paper) > 120, (name, shown)
            assert wrong == [], name


def brightness(colour: str) -> float:
    """Of ``rgb(34, 40, 50)``, from 0 to 255."""
    red, green, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_search_finds_a_term(browser: Browser, site: str, width: int) -> None:
    """A term typed into the search field of the front page leads to the page about it."""
    with opened(browser, site, width=width) as (page, wrong):
        page.goto(site + "index.html")
        page.locator("button.search-button__button:visible").first.click()
        page.keyboard.type("spool")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=spool*")
        found = page.locator("#search-results li a")
        expect(found.first).to_be_visible()
        hrefs = found.evaluate_all("all => all.map(one => new URL(one.href).pathname)")
        assert "/spool.html" in hrefs[:5]
        assert wrong == []


@pytest.mark.parametrize(
    ("term", "page_found"),
    [
        ("training_run", "/reference/api-reference.html"),
        ("MLAUDIT_ENABLED", "/settings.html"),
        ("resend", "/reference/command-line.html"),
    ],
)
def test_search_finds_names(browser: Browser, site: str, term: str, page_found: str) -> None:
    """A name of the API, a variable and a command are found on the page that describes them."""
    with opened(browser, site) as (page, wrong):
        page.goto(f"{site}search.html?q={term}")
        expect(page.locator(f'#search-results a[href*="{page_found.lstrip("/")}"]').first).to_be_visible()
        assert wrong == []


def test_the_site_opens_from_disk(browser: Browser) -> None:
    """Opened as files, without any server, the site has its style and finds a term."""
    with opened(browser, "file:///") as (page, wrong):
        page.goto((SITE / "index.html").as_uri())
        expect(page.locator(".bd-header")).to_have_css("position", "sticky")
        assert wrong == []
        page.goto((SITE / "search.html").as_uri() + "?q=spool")
        expect(page.locator('#search-results a[href*="spool.html"]').first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_can_be_read(browser: Browser, site: str, scheme: Literal["light", "dark"]) -> None:
    """On a narrow window a drawing keeps a size at which it can be read, and scrolls within its own room."""
    with opened(browser, site, scheme=scheme, width=NARROW) as (page, wrong):
        for name in ("project/readme.html", "lineage.html"):
            page.goto(site + name)
            drawing = page.locator("article img[src$='.svg']").first
            assert drawing.evaluate("one => one.getBoundingClientRect().width") > 700
            assert drawing.evaluate("one => one.parentElement.scrollWidth > one.parentElement.clientWidth")
        assert wrong == []


def test_the_site_is_read_without_scripts(browser: Browser, site: str) -> None:
    """With scripts switched off a page shows its text, and its links lead on."""
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(site + "settings.html")
        expect(page.get_by_text("MLAUDIT_ENABLED").first).to_be_visible()
        page.get_by_role("link", name="Auditor").locator("visible=true").first.click()
        page.locator("article a[href$='verify.html']").click()
        page.wait_for_url("**/verify.html")


def test_a_phone_reaches_every_page(browser: Browser, site: str) -> None:
    """On a narrow window the menu opens, and leads over a kind of reader to a page."""
    with opened(browser, site, width=NARROW) as (page, wrong):
        page.goto(site + "index.html")
        page.locator("button.primary-toggle:visible").click()
        page.get_by_role("link", name="Auditor").locator("visible=true").first.click()
        page.wait_for_url("**/readers/auditor.html")
        page.locator("article a[href$='verify.html']").click()
        page.wait_for_url("**/verify.html")
        assert wrong == []


def test_a_reader_can_choose_the_colours(browser: Browser, site: str) -> None:
    """The switch changes the colours, and the choice holds on the next page."""
    with opened(browser, site, scheme="light") as (page, wrong):
        page.goto(site + "index.html")
        page.locator("button.theme-switch-button:visible").click()
        page.get_by_role("button", name="Dark").click()
        page.goto(site + "settings.html")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert wrong == []
