"""The documentation site's pages, links and generated pages, without building it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.site import navigation
from tools.site.links import anchors, broken, links, resolve
from tools.site.navigation import DECISIONS, FRONT, GENERATED, GROUPS, differences, sources
from tools.site.output import faults
from tools.site.reference import api, commands
from tools.site.staging import FILES, adapt, stage

import mlaudit
from mlaudit.cli import app

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with an empty page for each that the navigation names."""
    for page in {FRONT, *(page for group in GROUPS for page in group.pages)} - {*GENERATED, DECISIONS}:
        _write(tmp_path / page, f"# {page}\n")
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    """Each page of docs/ and of the repository's root is in the navigation once, and nothing else is."""
    assert differences(ROOT) == []


def test_every_link_of_a_page_leads_somewhere() -> None:
    """Each link of a page to a file, a page or an anchor of this repository has its target."""
    assert sum(len(links((ROOT / page).read_text(encoding="utf-8"))) for page in sources(ROOT)) > 200
    assert broken(ROOT) == []


def test_a_page_without_place_is_named(checkout: Path) -> None:
    """A page that the navigation lacks is named, in a folder of its own and at the root as well."""
    assert differences(checkout) == []
    _write(checkout / "docs/guides/new.md", "# New\n")
    _write(checkout / "UPGRADING.md", "# Upgrading\n")
    assert [line.split()[0] for line in differences(checkout)] == ["UPGRADING.md", "docs/guides/new.md"]


def test_a_page_that_is_gone_is_named(checkout: Path) -> None:
    """A page that only the navigation has is named."""
    (checkout / "docs/spool.md").unlink()
    assert differences(checkout) == ["the navigation names docs/spool.md, which is no file"]


def test_two_pages_of_one_name_are_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would silently overwrite another one in the site is refused, also where the navigation has it."""
    _write(checkout / "docs/index.md", "# Index\n")
    _write(checkout / "docs/reference/command-line.md", "# Commands\n")
    more = navigation.Group("more", "More", "More.", ("docs/index.md", "docs/reference/command-line.md"))
    monkeypatch.setattr(navigation, "GROUPS", (*GROUPS, more))
    assert [line.split()[4] for line in differences(checkout)] == [
        "index.html",
        "reference/command-line.html",
    ]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("absent.md", "there is no docs/absent.md"),
        ("../src/absent.py", "there is no src/absent.py"),
        ("#absent", "docs/spool.md has no anchor absent"),
        ("keys.md#absent", "docs/keys.md has no anchor absent"),
        ("KEYS.md", "there is no docs/KEYS.md"),
        ("../../outside.md", "outside of the repository"),
        ("/docs/keys.md", "outside of the repository"),
    ],
)
def test_a_broken_link_is_named(checkout: Path, target: str, reason: str) -> None:
    """A link to what does not exist is reported with its page and what is missing."""
    _write(checkout / "docs/spool.md", f"# Spool\n\nSee [there]({target}).\n")
    (line,) = broken(checkout)
    assert line.startswith(f"docs/spool.md links to {target}")
    assert line.endswith(reason)


def test_links_of_html_and_images_are_checked(checkout: Path) -> None:
    """An image and a link written as HTML are checked like any other link."""
    _write(
        checkout / "docs/spool.md",
        '# Spool\n\n![x](no.svg)\n\n<img src="none.png">\n\nA <a href="#no">b</a>.\n',
    )
    assert [line.split()[3] for line in broken(checkout)] == ["no.svg,", "none.png,", "#no,"]


def test_anchors_are_those_of_a_code_host() -> None:
    """Headings give anchors as on a code host: code and links by their text, repeated ones numbered."""
    text = '# A `b.c`, and [d](e.md)!\n\n## X_y\n\n## X_y\n\n```\n# no heading\n```\n\n<a id="own"></a>\n\n### Größe\n'
    assert anchors(text) == {"a-bc-and-d", "x_y", "x_y-1", "own", "größe"}


def test_links_in_code_are_no_links() -> None:
    """Text like a link inside of code is neither checked nor changed."""
    text = "`[a](b.md)`\n\n````\n```\n[c](d.md)\n````\n\n[e](f.md)\n"
    assert links(text) == ["f.md"]


def test_a_link_of_another_site_is_left_alone() -> None:
    """An address with a scheme is not looked for in the repository."""
    assert resolve("docs/keys.md", "https://example.org/docs/none.md") is None
    assert resolve("docs/keys.md", "mailto:a@example.org") is None


def test_links_hold_under_the_names_of_the_site(checkout: Path, tmp_path: Path) -> None:
    """Staging leads a link to a page's new name, copies a linked file, and spells out a folder."""
    _write(checkout / "src/a.py", "A = 1\n")
    _write(
        checkout / "docs/adr/0001-x.md",
        "# X\n\n[keys](../keys.md#keys), [changes\n](../../CHANGELOG.md), [`a`](../../src/a.py), [all](../../src/),\n"
        "[map](../README.md), [decisions](../adr/), `[a](../keys.md)`, [web](https://example.org/a.md)\n\n"
        '````text\n```\n[a](../keys.md)\n````\n\n<a id="here"></a>\n\n[up](#x)\n',
    )
    staged = tmp_path / "staged"
    text = adapt(checkout, staged, "docs/adr/0001-x.md")
    assert text == (
        f"# X\n\n[keys](../keys.md#keys), [changes\n](../project/changelog.md), [`a`](../{FILES}/src/a.py), "
        "all (`src/` in the source),\n"
        "[map](../index.md), [decisions](index.md), `[a](../keys.md)`, [web](https://example.org/a.md)\n\n"
        "````text\n```\n[a](../keys.md)\n````\n\n(here)=\n\n[up](#x)\n"
    )
    assert (staged / FILES / "src/a.py").read_text(encoding="utf-8") == "A = 1\n"


def test_every_page_is_staged_in_one_table_of_contents(tmp_path: Path) -> None:
    """Each page but the front page is in exactly one table of contents of the staged site."""
    stage(ROOT, tmp_path)
    listed: list[str] = []
    for path in tmp_path.rglob("*.md"):
        for block in re.findall(
            r"```\{toctree\}\n:[^\n]*\n\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL
        ):
            listed += [
                (path.parent / name).resolve().relative_to(tmp_path.resolve()).as_posix()
                for name in block.split()
            ]
    written = {path.relative_to(tmp_path).with_suffix("").as_posix() for path in tmp_path.rglob("*.md")}
    assert sorted(listed) == sorted((written - {"index"}) | {f"reference/{name}" for name in GENERATED})


def test_the_reference_has_every_exported_name() -> None:
    """Whatever ``mlaudit`` exports is in the API reference, functions first."""
    names = re.findall(r"^\.\. auto(?:function|class|exception|data):: mlaudit\.(\w+)$", api(), re.MULTILINE)
    assert sorted(names) == sorted(set(mlaudit.__all__) - {"__version__"})
    assert names[0] == "record"


def test_the_reference_has_what_tests_of_services_use() -> None:
    """The pytest fixture is in the API reference by its own docstring, and helpers of the module are not."""
    text = api()
    assert ".. py:function:: audit_records" in text
    assert "Runs the test under audit with the built-in policy" in text
    assert "_MemoryBackend" not in text


def test_the_reference_has_every_command() -> None:
    """Every command of the application has a heading, and is listed with its whole first sentence."""
    import typer

    def names(command: object, path: str) -> list[str]:
        below = getattr(command, "commands", {})
        return [
            path,
            *(name for key, one in below.items() if not one.hidden for name in names(one, f"{path} {key}")),
        ]

    text = commands()
    headings = re.findall(r"^#+ `(mlaudit[^`]*)`$", text, re.MULTILINE)
    assert sorted(headings) == sorted(names(typer.main.get_command(app), "mlaudit"))
    assert not re.findall(r"^\* .*\.\.\.$", text, re.MULTILINE)


def test_a_fault_of_the_built_site_is_named(tmp_path: Path) -> None:
    """A link to nothing, an anchor that no page has and anything loaded from elsewhere are found in the output."""
    _write(
        tmp_path / "a.html",
        '<a href="b.html#here">x</a><a href="b.html#no">x</a><a href="none.html">x</a><a href="https://example.org">x</a>'
        '<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/x.css">'
        '<link rel="canonical" href="https://example.org/a"><img src="data:image/png;base64,AA==">',
    )
    _write(tmp_path / "b.html", '<p id="here"></p>')
    assert faults(tmp_path) == [
        "a.html loads https://cdn.example/x.js",
        "a.html loads //cdn.example/x.css",
        "a.html links to b.html#no, an anchor that is not in the site",
        "a.html links to none.html, which is not in the site",
    ]
