from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Self

import pytest
from tests.lineage_story import lineage, tell
from tests.sealed import SIGNER, make_stream, write_archive
from tests.trail import MemoryTrail
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.errors import SourceError
from mlaudit.lineage import find
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

URL = "https://localhost:9200"


class Cluster(MemoryTrail):
    """Stands in for the cluster: the sample's records, in memory."""

    def __init__(self, url: str, auth: Any, **options: Any) -> None:
        super().__init__(tell().records)
        assert url == URL

    def __enter__(self) -> Self:
        """Opens nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes nothing."""


def run(*arguments: object, **env: str) -> Result:
    """Runs the command line."""
    return CliRunner().invoke(app, ["lineage", *map(str, arguments)], env={"MLAUDIT_ES_URL": "", **env})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that holds the sample."""
    monkeypatch.setattr(find, "ElasticsearchTrail", Cluster)


@pytest.mark.usefixtures("cluster")
def test_text_json_and_picture() -> None:
    """Each form is printed, and the address may come from the environment."""
    text = run("credit-risk", "--elasticsearch", URL)
    as_json = run("credit-risk", "--format", "json", MLAUDIT_ES_URL=URL)
    as_svg = run("credit-risk", "--format", "svg", MLAUDIT_ES_URL=URL)

    assert text.exit_code == as_json.exit_code == as_svg.exit_code == 0
    assert "credit-risk:3" in text.stdout
    assert f"mlaudit verify --elasticsearch {URL} --stream " in text.stdout
    assert json.loads(as_json.stdout)["model"]["version"] == "3"
    assert as_svg.stdout.startswith("<svg ")


@pytest.mark.usefixtures("cluster")
def test_output_into_a_file(tmp_path: Path) -> None:
    """The file gets what would have been printed, without colours; nothing is printed."""
    for form, begin in (("text", "credit-risk:3"), ("json", "{"), ("svg", "<svg")):
        file = tmp_path / form
        result = run("credit-risk", "--format", form, "--output", file, MLAUDIT_ES_URL=URL)
        assert (result.exit_code, result.stdout) == (0, "")
        assert file.read_text(encoding="utf-8").startswith(begin)


@pytest.mark.usefixtures("cluster")
def test_gap_fails_where_the_chain_must_be_complete() -> None:
    """With --complete a gap is exit code 1; it is told either way."""
    assert run("credit-risk", MLAUDIT_ES_URL=URL).exit_code == 0
    assert run("credit-risk", "--complete", MLAUDIT_ES_URL=URL).exit_code == 1


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nobody"], "expected a model that the trail knows"),
        (["credit-risk:9"], "expected a version of credit-risk"),
        (["credit-risk", "--since", "yesterday"], "expected a date or time"),
        (
            ["credit-risk", "--since", "2026-02-01", "--until", "2026-01-01"],
            "expected --since before --until",
        ),
        (["credit-risk", "--output", "/nowhere/x"], "expected a file that can be written"),
        (["credit-risk", "--verify", "--keys", "/nowhere"], "/nowhere"),
        (["credit\x1b[31m"], "credit"),
    ],
)
def test_exit_code_2_when_it_could_not_look(arguments: list[str], reason: str) -> None:
    """Whatever keeps it from looking is said, in text and in JSON, and commands no terminal."""
    text = run(*arguments, MLAUDIT_ES_URL=URL)

    assert text.exit_code == 2
    assert reason in text.stderr
    assert "\x1b" not in text.stderr
    if "--output" not in arguments:
        as_json = run(*arguments, "--format", "json", MLAUDIT_ES_URL=URL)
        assert as_json.exit_code == 2
        assert reason in json.loads(as_json.stdout)["error"]


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, "expected the address of the cluster"),
        ({"MLAUDIT_ES_URL": "nonsense"}, "expected an address"),
        ({"MLAUDIT_ES_URL": URL, "MLAUDIT_ES_USERNAME": "x"}, "expected both MLAUDIT_ES_USERNAME"),
    ],
)
def test_address_and_credentials(env: dict[str, str], reason: str) -> None:
    """Without a cluster there is nothing to tell."""
    result = run("credit-risk", **env)

    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.usefixtures("cluster")
def test_stream_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --verify what the proof says of each stream is told, and one that does not hold is exit code 1."""

    def prove(told: Any, *_: object) -> dict[str, str]:
        verdicts = dict.fromkeys(told.streams, find.HOLDS)
        return verdicts | {next(iter(verdicts)): "does not hold: chain.gap"}

    monkeypatch.setattr(find, "prove_streams", prove)
    result = run("credit-risk", "--verify", MLAUDIT_ES_URL=URL)

    assert result.exit_code == 1
    assert "does not hold: chain.gap" in result.stdout


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminal_of_another_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal cannot show is replaced; nothing fails over a dot."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))

    with pytest.raises(SystemExit) as ended:
        app(["lineage", "credit-risk", "--elasticsearch", URL])

    assert ended.value.code == 0
    assert ("● " if encoding == "utf-8" else "* ") + "/data/loans.parquet" in written.getvalue().decode(
        encoding
    )


@pytest.mark.usefixtures("cluster")
def test_each_stream_is_proved_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stream that cannot be looked at, or does not hold, costs its own verdict; beyond a bound none is proved."""
    (tmp_path / "test.pub").write_text(SIGNER.public_key.encode() + "\n")
    whole = make_stream()
    (good, broken, absent, beyond) = lineage(tell()).streams
    archives = {
        good: write_archive(tmp_path / "good.jsonl", whole),
        broken: write_archive(tmp_path / "broken.jsonl", whole[:6] + whole[7:]),
    }

    def verify(_: object, keys: Any, *, stream: str) -> Any:
        if stream == absent:
            raise SourceError("a shard did not answer")
        return verify_source(open_source(archives[stream]), keys)

    monkeypatch.setattr(find, "verify_source", verify)
    monkeypatch.setattr(find, "VERIFIED", 3)
    result = run("credit-risk", "--verify", "--keys", tmp_path, "--format", "json", MLAUDIT_ES_URL=URL)

    assert result.exit_code == 1
    verdicts = {one["stream_id"]: one["verified"] for one in json.loads(result.stdout)["evidence"]["streams"]}
    assert verdicts == {
        good: "holds",
        broken: "does not hold: chain.gap",
        absent: "could not check: a shard did not answer",
        beyond: "not looked at: more than 3 streams",
    }
