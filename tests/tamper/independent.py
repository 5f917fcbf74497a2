"""Verifies a trail without any code of mlaudit, following docs/format.md: ``python independent.py KEYS FILE...``.

KEYS is a folder of ``.pub`` files; a FILE is an archive, or a JSON array of the hits of a search in Elasticsearch.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ADDED = ("event.original", "event.hash", "event.sequence", "event.ingested", "data_stream.", "mlaudit.")
UNINDEXED = (".body.content", "ml.prediction.input", "ml.prediction.output")  # may be in the original alone
OVER = ("audit.stream.ended", "audit.stream.abandoned")
ALWAYS = ("audit.action", "audit.actor.id", "audit.outcome", "audit.record.id", "audit.schema.version")
Keys = dict[bytes, Ed25519PublicKey]
Record = tuple[
    str, dict[str, Any], list[str], str
]  # original, its fields, what the store says otherwise, namespace


def read_keys(folder: Path) -> Keys:
    """Verifier keys ``name+id+base64(0x01 || key)`` by name and key id."""
    parts = [path.read_text().strip().split("+", 2) for path in folder.glob("*.pub")]
    found = {n.encode() + bytes.fromhex(i): base64.b64decode(key)[1:] for n, i, key in parts}
    return {name: Ed25519PublicKey.from_public_bytes(raw) for name, raw in found.items()}


def documents(hits: Iterable[dict[str, Any]]) -> Iterator[Record]:
    """Records from Elasticsearch, compared with id, stored hash and sequence, searchable fields and data stream."""
    for hit in hits:
        source, original = hit["_source"], str(hit["_source"].get("event.original"))
        fields, digest, space = parse(original), sha256(original), str(source.get("data_stream.namespace"))
        shown = {name: value for name, value in source.items() if not name.startswith(ADDED)}
        right = {
            "hash": source.get("event.hash") == digest,
            "sequence": source.get("event.sequence") == fields.get("audit.sequence.number"),
            "id": hit["_id"] == f"{fields.get('audit.record.id')}-{digest[:32]}",
            "projection": shown == {n: v for n, v in fields.items() if not n.endswith(UNINDEXED)},
            "class": source.get("data_stream.dataset") == fields.get("event.dataset"),
            "type": source.get("data_stream.type") == "logs",
            "place": f"logs-{fields.get('event.dataset')}-{space}-" in hit["_index"],
        }
        yield original, fields, [name for name, holds in right.items() if not holds], space


def lines(path: Path) -> Iterator[Record]:
    """Records from an archive, compared with their envelopes; an unreadable line counts as an invalid record."""
    for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        requests = parse(line).get("resourceLogs") or [{"scopeLogs": [{"logRecords": [{"body": {}}]}]}]
        scopes = [scope for resource in requests for scope in resource["scopeLogs"]]
        for log in (log for scope in scopes for log in scope["logRecords"]):
            original = log["body"].get("stringValue", "")
            fields = parse(original)
            said = {p["key"]: next(iter(p["value"].values()), "") for p in log.get("attributes", [])}
            must = {name: str(fields.get(name)) for name in (*said, *ALWAYS)}
            must |= {"audit.integrity.value": sha256(original), "kind": str(fields.get("audit.kind"))}
            must |= {"trace": fields.get("trace.id", ""), "span": fields.get("span.id", "")}
            must |= {"time": str(fields.get("@timestamp")).rstrip("Z").partition(".")[2]}
            said |= {"kind": log.get("eventName"), "time": str(log.get("timeUnixNano"))[-9:]}
            said |= {"trace": log.get("traceId", ""), "span": log.get("spanId", "")}
            yield original, fields, [name for name, value in must.items() if said.get(name) != value], ""


def faults(records: Iterable[Record], keys: Keys, exported: Iterable[str] = ()) -> list[str]:
    """All faults; ``exported`` are signed checkpoints from outside the source."""
    found, streams = [], {}
    for record in records:
        stream, number = (record[1].get(f"audit.sequence.{name}") for name in ("stream_id", "number"))
        same = streams.setdefault(str(stream), {}).setdefault(number or 0, record)
        found += [f"{stream}:{number}: {name}" for name in record[2]]
        found += [f"{stream}:{number}: another record"] * (same[0] != record[0])
    heads = {stream: {n: sha256(record[0]) for n, record in by.items()} for stream, by in streams.items()}
    for stream, by in streams.items():
        found += [f"{stream}: missing records"] * (sorted(by) != list(range(1, len(by) + 1)))
        found += [f"{stream}: several namespaces"] * (len({record[3] for record in by.values()}) > 1)
        end = signed = 0
        for number, (_, fields, _, _) in sorted(by.items()):
            before = heads[stream].get(number - 1, "0" * 64)
            found += [f"{stream}:{number}: link"] * (fields.get("audit.sequence.previous_hash") != before)
            found += [f"{stream}:{number}: behind the end"] * bool(end)
            end = number if fields.get("audit.kind") in OVER else end
            if "audit.checkpoint.note" in fields or end == number:
                of, about, digest = read_note(str(fields.get("audit.checkpoint.note")), keys)
                good = (of, heads[stream].get(about)) == (stream, digest) and signed < about < number
                good = good and about == number - 1 if end else good
                found += [f"{stream}:{number}: checkpoint"] * (not good)
                signed = max(signed, about)
        first, last = by[min(by)][1], by[max(by)][1]
        previous, parent = (first.get(f"audit.stream.{name}.id") for name in ("previous", "parent"))
        named = (previous, parent, last.get("audit.stream.adopted_by"))
        found += [f"{other}: missing stream" for other in named if other not in (None, *streams)]
        if previous in streams:
            link = [first.get(f"audit.stream.previous.{name}") for name in ("sequence", "hash")]
            found += [f"{previous}: not as {stream} names it"] * (heads[previous].get(link[0]) != link[1])
            kind = streams[previous][max(streams[previous])][1].get("audit.kind")
            found += [f"{previous}: has no end"] * (kind not in OVER)
    notes = [read_note(note, keys) for note in exported]
    return found + [
        f"{s}:{n}: exported checkpoint" for s, n, digest in notes if heads.get(s, {}).get(n) != digest
    ]


def read_note(note: str, keys: Keys) -> tuple[str, int, str]:
    """Stream, sequence and hash of a signed checkpoint; nothing when no trusted key signed it."""
    text, _, signatures = note.partition("\n\n")
    for _, name, encoded in (line.split(" ", 2) for line in signatures.splitlines()):
        raw = base64.b64decode(encoded)
        with suppress(KeyError, InvalidSignature):
            keys[name.encode() + raw[:4]].verify(raw[4:], f"{text}\n".encode())
            return text.split("\n")[1], int(text.split("\n")[2]), text.split("\n")[3]
    return "", 0, ""


def parse(text: str) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def sha256(text: str) -> str:
    """Of its bytes, in lower hex."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    read: list[Record] = []
    for path in map(Path, sys.argv[2:]):
        text = path.read_text(encoding="utf-8")
        read += documents(json.loads(text)) if text[:1] == "[" else lines(path)
    problems = faults(read, read_keys(Path(sys.argv[1])))
    sys.exit("\n".join(problems) or print(f"{len(read)} records hold"))
