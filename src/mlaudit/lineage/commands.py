"""``mlaudit lineage``, behind the command line."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console

from mlaudit.cluster.client import credentials
from mlaudit.errors import MlauditError, SourceError
from mlaudit.lineage.ask.cluster_trail import ElasticsearchTrail
from mlaudit.lineage.ask.reference import choose
from mlaudit.lineage.ask.trace import trace
from mlaudit.lineage.chain.graph import build
from mlaudit.lineage.show.json_document import SCHEMA, document
from mlaudit.lineage.show.svg import draw
from mlaudit.lineage.show.text import MIN_WIDTH, render
from mlaudit.safety.printable import safe_lines
from mlaudit.verify.sources.open_source import cluster
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import trusted_keys
from mlaudit.verify.verification import verify_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.text import Text

    from mlaudit.lineage.chain.nodes import Lineage
    from mlaudit.seal.checkpoint import VerifyingKey
    from mlaudit.verify.sources.source import Source

TOLD: Final = 0
FINDINGS: Final = 1
COULD_NOT_LOOK: Final = 2

#: Streams that ``--verify`` proves; each is read from its beginning to its end.
VERIFIED: Final = 50
HOLDS: Final = "holds"
_MAX_WIDTH: Final = 120
_PIPE_WIDTH: Final = 100
_PLAIN: Final = str.maketrans({"●": "*", "○": "o", "⋮": ":", "→": ">", "…": "..."})

Format = Literal["text", "json", "svg"]


def lineage(
    model: str,
    *,
    elasticsearch: str | None,
    form: Format,
    output: Path | None,
    namespace: str,
    ca_file: Path | None,
    since: str,
    until: str,
    complete: bool,
    verify: bool,
    keys: Path | None,
) -> int:
    """Tells the lineage of a model, and returns the exit code.

    0: told; 1: told, and a record is not as it was sealed, a stream does not hold (``verify``), or the chain has a gap
    (``complete``); 2: it could not check, or knows no such model.
    """
    try:
        if not elasticsearch:
            raise SourceError("expected the address of the cluster: --elasticsearch URL, or MLAUDIT_ES_URL")
        told = _look(model, elasticsearch, namespace, ca_file, since, until)
        proofs = _prove(told, elasticsearch, namespace, ca_file, keys) if verify else None
        hint = "" if verify else f"mlaudit verify --elasticsearch {elasticsearch}"
        if form == "text":
            _put_lines(told, proofs, hint, output)
        else:
            _put(draw(told, proofs) if form == "svg" else _json(document(told, proofs)), output)
    except MlauditError as error:
        if form == "json" and output is None:
            sys.stdout.write(_json({"schema": SCHEMA, "error": str(error)}))
        console = Console(stderr=True)
        text = f"mlaudit lineage: could not check: {safe_lines(str(error))}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return COULD_NOT_LOOK
    broken = proofs is not None and any(verdict != HOLDS for verdict in proofs.values())
    return FINDINGS if told.faults or broken or (complete and told.gaps) else TOLD


def _look(model: str, url: str, namespace: str, ca_file: Path | None, since: str, until: str) -> Lineage:
    begin = parse_moment(since) if since else ""
    end = parse_moment(until) if until else ""
    if begin and end and begin >= end:
        raise SourceError(f"expected --since before --until, found {since} and {until}")
    auth = credentials(os.environ)
    with ElasticsearchTrail(url, auth, ca_file=ca_file, namespace=namespace) as trail:
        return build(trace(trail, choose(trail, model), begin, end))


def _prove(
    told: Lineage, url: str, namespace: str, ca_file: Path | None, keys: Path | None
) -> dict[str, str]:
    """What verification says of each stream that the lineage rests on."""
    trusted = trusted_keys(keys, follow_rotations=False)
    source = cluster(url, namespace, ca_file)
    proofs: dict[str, str] = {}
    try:
        for number, stream in enumerate(told.streams):
            if number >= VERIFIED:
                proofs[stream] = f"not looked at: more than {VERIFIED} streams"
                continue
            proofs[stream] = _verdict(source, trusted, stream)
    finally:
        source.close()
    return proofs


def _verdict(source: Source, trusted: Mapping[str, VerifyingKey], stream: str) -> str:
    """A stream that cannot be looked at costs its own proof, not those of the others."""
    try:
        report = verify_source(source, trusted, stream=stream)
    except SourceError as error:
        return f"could not check: {error}"
    codes = sorted({found.code for found in report.findings if found.severity == "finding"})
    return HOLDS if report.ok else f"does not hold: {', '.join(codes)}"


def _put_lines(told: Lineage, proofs: dict[str, str] | None, hint: str, output: Path | None) -> None:
    if output is not None:
        lines = render(told, _PIPE_WIDTH, verify=hint, proofs=proofs)
        _put("".join(f"{line.plain}\n" for line in lines), output)
        return
    console = Console(highlight=False, soft_wrap=True)
    width = min(max(console.width, MIN_WIDTH), _MAX_WIDTH) if console.is_terminal else _PIPE_WIDTH
    for line in render(told, width, verify=hint, proofs=proofs):
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


def _put(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SourceError(
            f"--output {output}: expected a file that can be written: {error.strerror}"
        ) from None
