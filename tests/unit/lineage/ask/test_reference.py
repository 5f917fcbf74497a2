from __future__ import annotations

import pytest
from tests.lineage_story import NEW, OLD, model, tell
from tests.trail import MemoryTrail, Story

from mlaudit.errors import SourceError
from mlaudit.lineage.ask.reference import Chosen, choose


def chosen(story: Story, text: str) -> Chosen:
    """The selected version."""
    return choose(MemoryTrail(story.records), text)


def promote(story: Story, version: str, alias: str, before: str = "", after: str = "") -> None:
    """A record of an alias or stage that was set, or removed without ``after``."""
    fields = {"ml.registry.alias": alias, "ml.registry.before": before, "ml.registry.after": after}
    told = {name: value for name, value in fields.items() if value}
    story.tell("audit.ml.model.promoted", ml__model__name="credit-risk", ml__model__version=version, **told)


def saved(*versions: str) -> Story:
    """Versions saved one after the other."""
    story = Story()
    for number, version in enumerate(versions):
        story.tell("audit.ml.model.saved", **model(version, f"{number:064x}"))
    return story


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("credit-risk", "3"),
        ("credit-risk:2", "2"),
        ("credit-risk@champion", "3"),
        ("credit-risk@2", "2"),
        (f"credit-risk:{OLD}", "2"),
        (f"credit-risk:{NEW[:8]}", "3"),
        (f"credit-risk:sha256:{OLD[:12]}", "2"),
    ],
)
def test_ways_to_name_a_version(text: str, version: str) -> None:
    """A version is selected by default, by its number, its alias or its digest."""
    assert chosen(tell(), text).version == version


def test_newest_is_what_was_deployed_last() -> None:
    """The default is the version that was deployed last, not a newer one without a deployment."""
    story = tell()
    story.tell("audit.ml.model.saved", **model("4", "4" * 64))

    found = chosen(story, "credit-risk")

    assert (found.version, found.reason) == ("3", "deployed last")
    assert [one.version for one in found.versions] == ["4", "3", "2"]


def test_newest_without_deployments() -> None:
    """Without a deployment or promotion the default is the version that was made last, whatever its number."""
    assert chosen(saved("9", "10"), "credit-risk").version == "10"
    assert chosen(saved("10", "9"), "credit-risk").version == "9"


def test_alias_moves_and_goes() -> None:
    """An alias selects its current version; the error for a removed alias names the last one."""
    story = saved("1", "2")
    promote(story, "1", "champion", after="1")
    promote(story, "2", "champion", before="1", after="2")
    assert chosen(story, "credit-risk@champion").version == "2"
    promote(story, "2", "champion", before="2")

    with pytest.raises(SourceError, match="no version is; it was version 2 before"):
        chosen(story, "credit-risk@champion")


def test_stage_is_left_with_the_next_one() -> None:
    """A version that moved to another stage no longer has the previous one."""
    story = saved("1")
    promote(story, "1", "Production", before="None", after="Production")
    assert chosen(story, "credit-risk@Production").version == "1"
    promote(story, "1", "Archived", before="Production", after="Archived")

    assert chosen(story, "credit-risk@Archived").version == "1"
    with pytest.raises(SourceError, match="is Production, found none"):
        chosen(story, "credit-risk@Production")


def test_name_with_a_colon_is_taken_whole() -> None:
    """A known model name with a colon is not split."""
    story = Story()
    for name in ("llm:7b", "llm"):
        story.tell(
            "audit.ml.model.saved", ml__model__name=name, ml__model__version="7b", ml__model__digest=NEW
        )

    assert chosen(story, "llm:7b").name == "llm:7b"
    assert chosen(story, "llm:7b:7b").name == "llm:7b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("credit-risc", "near to it are credit-risk"),
        ("CREDIT-RISK:3", "near to it are credit-risk"),
        ("zzz", "it knows credit-risk"),
        (
            "credit-risk:9",
            "expected a version of credit-risk that the trail knows, found '9'; it knows versions 3, 2",
        ),
        (
            "credit-risk@nobody",
            "expected an alias, a stage or a version of credit-risk .* and aliases champion",
        ),
        ("", "found ''"),
        (":", "found ':'"),
        ("@", "found '@'"),
    ],
)
def test_what_the_trail_does_not_know(text: str, reason: str) -> None:
    """An unknown name, version or alias is an error that lists what is known."""
    with pytest.raises(SourceError, match=reason):
        chosen(tell(), text)


def test_empty_trail() -> None:
    """The error for a trail without models asks whether this is the right cluster."""
    with pytest.raises(SourceError, match="the right cluster and namespace"):
        chosen(Story(), "credit-risk")


def test_digest_that_several_have() -> None:
    """A digest prefix that two artifacts share is rejected."""
    story = Story()
    for end in ("a", "b"):
        story.tell("audit.ml.model.saved", **model("1", "0" * 63 + end))

    with pytest.raises(SourceError, match="expected one artifact of credit-risk .* found 2"):
        chosen(story, "credit-risk:00000000")
