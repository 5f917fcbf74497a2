"""The pages of the site, grouped by reader as in the README."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

FRONT: Final = "docs/README.md"
DECISIONS: Final = "docs/adr"
GENERATED: Final = {"api-reference": "API reference", "command-line": "Command line"}
"""Pages that are made from the code when the site is built, with their titles."""


@dataclass(frozen=True, slots=True)
class Group:
    """The pages for one kind of reader.

    ``pages`` are paths in the repository, the folder of decisions, or names of generated pages.
    """

    name: str
    title: str
    summary: str
    pages: tuple[str, ...]


GROUPS: Final = (
    Group(
        "start",
        "Start",
        "What mlaudit is, and the first five minutes with it.",
        ("README.md", "docs/examples.md", "docs/glossary.md"),
    ),
    Group(
        "deciding",
        "Deciding",
        "What is guaranteed, within which limits, and how it is proved.",
        ("docs/guarantees.md", "docs/faults.md", "docs/benchmarks.md"),
    ),
    Group(
        "service-owner",
        "Service owner",
        "Settings, the policy, what is captured, and the Python API.",
        (
            "docs/settings.md",
            "docs/policy.md",
            "docs/capture-http.md",
            "docs/capture-python.md",
            "docs/capture-training.md",
            "docs/capture-models.md",
            "docs/capture-data.md",
            "docs/capture-configuration.md",
            "docs/capture-system.md",
            "docs/notebooks.md",
            "docs/libraries.md",
            "docs/api.md",
            "api-reference",
        ),
    ),
    Group(
        "security-analyst",
        "Security analyst",
        "Detection rules, dashboards, and every event and field.",
        ("docs/detections.md", "docs/dashboards.md", "docs/events.md"),
    ),
    Group(
        "auditor",
        "Auditor",
        "Verifying a trail, the lineage of a model, keys, and the format of the evidence.",
        (
            "docs/verify.md",
            "docs/lineage.md",
            "docs/checkpoints.md",
            "docs/keys.md",
            "docs/format.md",
            "docs/coverage.md",
        ),
    ),
    Group(
        "platform-engineer",
        "Platform engineer",
        "Running the spool, the collector and Elasticsearch, and keeping them safe.",
        (
            "docs/operations.md",
            "command-line",
            "docs/spool.md",
            "docs/collector.md",
            "docs/capture-infrastructure.md",
            "docs/security.md",
            "SECURITY.md",
            "docs/hostile-input.md",
            "docs/install.md",
            "docs/compose.md",
        ),
    ),
    Group(
        "contributor",
        "Contributor",
        "How the code is arranged, why, and how to change it.",
        ("docs/architecture.md", "CONTRIBUTING.md", "docs/generation.md", DECISIONS, "CHANGELOG.md"),
    ),
)


def sources(root: Path) -> list[str]:
    """Every Markdown page of the site by its path: all of ``docs/``, and those at the root of the repository."""
    paths = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    return sorted(path.relative_to(root).as_posix() for path in paths)


def document(source: str) -> str:
    """The name of a page in the site, without ending: ``docs/adr/0001-x.md`` is ``adr/0001-x``."""
    if source in GENERATED:
        return f"reference/{source}"
    if source == FRONT:
        return "index"
    if source == DECISIONS:
        return "adr/index"
    path = PurePosixPath(source).with_suffix("")
    return path.relative_to("docs").as_posix() if path.parts[0] == "docs" else f"project/{path.name.lower()}"


def differences(root: Path) -> list[str]:
    """Pages missing in the navigation, and entries that are duplicates or have no page."""
    named = [page for group in GROUPS for page in group.pages if page not in GENERATED and page != DECISIONS]
    there = {page for page in sources(root) if page != FRONT and not page.startswith(f"{DECISIONS}/")}
    documents = [document(page) for page in (*sources(root), DECISIONS, *GENERATED)]
    documents += [f"readers/{group.name}" for group in GROUPS]
    missing, twice = sorted(there - set(named)), sorted({page for page in named if named.count(page) > 1})
    clashes = sorted({name for name in documents if documents.count(name) > 1})
    return [
        *(f"{page} is not in the navigation: name it in tools/site/navigation.py" for page in missing),
        *(f"the navigation names {page}, which is no file" for page in named if not (root / page).is_file()),
        *(f"the navigation names {page} twice" for page in twice),
        *(f"two pages would be {name}.html in the site: rename one" for name in clashes),
    ]
