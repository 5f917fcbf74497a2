"""One lineage in every output format, kept as files: a change of the output is a change of a file.

``python -m tests.golden.test_lineage`` writes them anew, and the picture of the documentation with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lineage_story import lineage, tell

from mlaudit.lineage.chain.nodes import Lineage
from mlaudit.lineage.show.json_document import document
from mlaudit.lineage.show.svg import draw
from mlaudit.lineage.show.text import render

FOLDER = Path(__file__).parent / "lineage"
DOCS = Path(__file__).parents[2] / "docs"
COMMAND = "mlaudit verify --elasticsearch https://localhost:9200"


def as_text(told: Lineage) -> str:
    """As ``mlaudit lineage`` prints it to a pipe."""
    return "".join(f"{line.plain}\n" for line in render(told, 100, verify=COMMAND))


def as_json(told: Lineage) -> str:
    """As ``--format json``."""
    return json.dumps(document(told), indent=2) + "\n"


FORMS: dict[str, Callable[[Lineage], str]] = {"txt": as_text, "json": as_json, "svg": draw}
STORIES = {"credit-risk": lambda: lineage(tell()), "many-trials": lambda: lineage(tell(38))}
CASES = [("credit-risk", form) for form in FORMS] + [("many-trials", "svg")]


@pytest.mark.parametrize(("story", "form"), CASES)
def test_form_is_the_kept_one(story: str, form: str) -> None:
    """The output for the same records equals the stored one."""
    kept = FOLDER / f"{story}.{form}"

    assert FORMS[form](STORIES[story]()) == kept.read_text(encoding="utf-8")


def test_documentation_shows_the_kept_one() -> None:
    """The page's picture and text are the program's output for the sample."""
    page = (DOCS / "lineage.md").read_text(encoding="utf-8")

    assert (DOCS / "lineage.svg").read_text() == (FOLDER / "many-trials.svg").read_text()
    assert f"```console\n$ mlaudit lineage credit-risk\n{as_text(STORIES['credit-risk']())}```" in page


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for story, form in CASES:
        (FOLDER / f"{story}.{form}").write_text(FORMS[form](STORIES[story]()), encoding="utf-8")
    (DOCS / "lineage.svg").write_text((FOLDER / "many-trials.svg").read_text(), encoding="utf-8")
    page = DOCS / "lineage.md"
    before, found, rest = page.read_text(encoding="utf-8").partition(
        "```console\n$ mlaudit lineage credit-risk\n"
    )
    if found:
        after = f"\n{rest}".partition("\n```")[2]
        page.write_text(f"{before}{found}{as_text(STORIES['credit-risk']())}```{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
