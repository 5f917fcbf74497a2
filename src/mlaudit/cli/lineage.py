"""``mlaudit lineage``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from mlaudit.cli import options, output
from mlaudit.errors import SourceError

if TYPE_CHECKING:
    from rich.text import Text

    from mlaudit.lineage.chain.nodes import Lineage

_MAX_WIDTH: Final = 120
_PIPE_WIDTH: Final = 100
_PLAIN: Final = str.maketrans({"●": "*", "○": "o", "⋮": ":", "→": ">", "…": "..."})

Format = Literal["text", "json", "svg"]


def lineage_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A model, MODEL:VERSION, MODEL:DIGEST (its first 8 digits or more) or MODEL@ALIAS.",
            metavar="MODEL[:VERSION]",
        ),
    ],
    elasticsearch: options.ElasticsearchOfEnvironment = "",
    form: Annotated[Format, typer.Option("--format", help="What to print.")] = "text",
    file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write into this file instead.")
    ] = None,
    namespace: options.Namespace = "*",
    since: options.Since = "",
    until: options.Until = "",
    complete: Annotated[
        bool, typer.Option("--complete", help="Exit code 1 when the chain has a gap, too.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Prove the streams that the records belong to, as mlaudit verify."),
    ] = False,
    keys: options.Keys = None,
    ca_file: options.CaFile = None,
    as_json: options.Json = False,
) -> None:
    """Tell where a model comes from and what it was used for: data, run, metrics, approval, artifact, deployment, uses.

    Of a model without a version: the one that was deployed or promoted last. Exit code 0 when it is shown, 1 when a
    record is not as it was sealed (or --verify or --complete find something), 2 when it could not check.
    """
    from mlaudit.lineage.find import HOLDS, find_lineage, prove_streams
    from mlaudit.lineage.show.json_document import SCHEMA, document
    from mlaudit.lineage.show.svg import draw
    from mlaudit.verify.inputs import Cluster, Window

    if as_json and form == "svg":
        raise typer.BadParameter("expected either --json or --format svg", param_hint="--json")
    wanted = "json" if as_json else form
    cluster = Cluster(elasticsearch, ca_file, namespace)
    with output.could_not_check(
        "lineage", as_json=wanted == "json" and file is None, answer={"schema": SCHEMA}
    ):
        found = find_lineage(model, cluster, Window(since, until))
        proofs = prove_streams(found, cluster, keys) if verify else None
        hint = "" if verify else f"mlaudit verify --elasticsearch {elasticsearch}"
        if wanted == "text":
            _put_lines(found, proofs, hint, file)
        else:
            _put(draw(found, proofs) if wanted == "svg" else _json(document(found, proofs)), file)
    broken = proofs is not None and any(verdict != HOLDS for verdict in proofs.values())
    raise typer.Exit(output.FINDINGS if found.faults or broken or (complete and found.gaps) else output.FINE)


def _put_lines(found: Lineage, proofs: dict[str, str] | None, hint: str, file: Path | None) -> None:
    from mlaudit.lineage.show.text import MIN_WIDTH, render

    if file is not None:
        lines = render(found, _PIPE_WIDTH, verify=hint, proofs=proofs)
        _put("".join(f"{line.plain}\n" for line in lines), file)
        return
    console = output.console()
    width = min(max(console.width, MIN_WIDTH), _MAX_WIDTH) if console.is_terminal else _PIPE_WIDTH
    for line in render(found, width, verify=hint, proofs=proofs):
        console.print(_encodable(line, console.encoding), soft_wrap=True)


def _encodable(line: Text, encoding: str) -> Text | str:
    """The line, or what a terminal of another encoding can show of it."""
    try:
        line.plain.encode(encoding)
    except UnicodeEncodeError:
        return line.plain.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return line


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


def _put(text: str, file: Path | None) -> None:
    if file is None:
        output.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SourceError(f"--output {file}: expected a file that can be written: {error.strerror}") from None
