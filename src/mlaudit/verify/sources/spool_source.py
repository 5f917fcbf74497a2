"""Reads the spool of the audited process: segments of frames, quarantined records, and what a crash cut off."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.frames import find_frame
from mlaudit.errors import SourceError
from mlaudit.safety.regular import open_regular
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.stored import Claims, Difference, StoredRecord, observe, parse_original
from mlaudit.verify.sources.projection import ABSENT, Outside, compare_outside, shown
from mlaudit.verify.sources.source import Remarks, Selection, attribute_claims

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlaudit.deliver.spool.files import Frame

_QUARANTINED: Final = "*.otlp"


class SpoolSource:
    """The streams of one spool folder. Records leave it once they are delivered, so absence means nothing."""

    complete = False
    live = False

    def __init__(self, spool: Path, folders: list[Path]) -> None:
        self.name = str(spool)
        self._folders = folders

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``; segment by segment."""
        for folder in self._folders:
            if selection.takes_stream(folder.name):
                yield from self._read_stream(folder, remarks)

    def _read_stream(self, folder: Path, remarks: Remarks) -> Iterator[StoredRecord]:
        paths = layout.segments(folder)
        first = last = 0
        stream_id = folder.name
        for path in paths:
            name = path.name
            for frame in self._frames(path, stream_id, remarks):
                record = _record(frame.payload, frame.digest.hex(), frame.sequence, stream_id, name)
                if record.sequence < last:
                    text = f"record {record.sequence} is stored behind record {last}"
                    where = f"{path}, before byte {frame.end}"
                    remarks.note(
                        Finding(codes.ORDER_SWAPPED, text, folder.name, record.sequence, last, where=where)
                    )
                if not first or record.sequence < first:
                    first = record.sequence
                if record.sequence > last:
                    last = record.sequence
                yield record
        yield from self._quarantined(folder, first, remarks)
        ack = files.read_ack(folder)
        if ack is not None and first and ack.sequence >= first - 1:
            remarks.trimmed[folder.name] = first - 1

    def _frames(self, path: Path, stream_id: str, remarks: Remarks) -> Iterator[Frame]:
        try:
            with open_regular(path) as file:
                data = file.read()
        except FileNotFoundError:
            remarks.not_checked.append(f"{path}: delivered and removed while it was being read")
            return
        except OSError as error:
            raise SourceError(f"{path}: expected a readable segment, found {error.strerror}") from None
        position = 0
        previous = layout.first_sequence(path) - 1
        view = memoryview(
            data
        )  # a segment with a thousand damaged places must not be copied a thousand times
        while position < len(data):
            for frame in files.parse_frames(view[position:] if position else data, position):
                yield frame
                position, previous = frame.end, max(previous, frame.sequence)
            rest = view[position:]
            if not rest:
                return
            damaged = files.damaged_frame(rest, position)
            if damaged is not None and damaged.sequence and _begins_frame(view[damaged.end :]):
                yield damaged  # its hash shows what is wrong
                position = damaged.end
                continue
            skipped = max(0, find_frame(rest, previous))
            if not skipped and (damaged is None or not any(rest)):
                text = f"{len(rest)} bytes at the end were cut off by a crash, or are being written"
                remarks.note(Finding(codes.SOURCE_TORN, text, stream_id, where=str(path)))
                return
            text = f"{skipped or len(rest)} bytes from byte {position} on cannot be read"
            remarks.note(Finding(codes.SOURCE_DAMAGED, text, stream_id, where=str(path)))
            position += skipped or len(rest)

    def _quarantined(self, folder: Path, first: int, remarks: Remarks) -> Iterator[StoredRecord]:
        paths = sorted(layout.quarantine_folder(folder).glob(_QUARANTINED))
        if not paths:
            return
        text = f"{len(paths)} records are quarantined because no receiver accepted them"
        remarks.note(Finding(codes.SOURCE_QUARANTINED, text, folder.name, where=str(paths[0].parent)))
        for path in paths:
            if path.stem.isdigit() and not (first and int(path.stem) >= first):
                try:
                    with open_regular(path) as file:
                        payload = file.read(files.MAX_PAYLOAD)
                    yield _record(payload, "", int(path.stem), folder.name, path.name)
                except OSError as error:
                    raise SourceError(f"{path}: expected a readable record, found {error.strerror}") from None


def _begins_frame(data: memoryview) -> bool:
    """Whether a valid frame or the end comes next."""
    return not data or next(files.parse_frames(data), None) is not None


def read_log_record(payload: bytes) -> tuple[bytes, Outside] | None:
    """Body and envelope of a serialised LogRecord, or None when it is not one."""
    try:
        message = LogRecord.FromString(payload)
    except DecodeError:
        return None
    attributes: dict[str, Any] = {}
    for attribute in message.attributes:
        value = attribute.value
        attributes[attribute.key] = value.string_value or value.int_value or ""
    outside = Outside(
        attributes,
        message.event_name,
        message.time_unix_nano,
        message.trace_id.hex(),
        message.span_id.hex(),
    )
    return message.body.string_value.encode(), outside


def _record(payload: bytes, digest: str, sequence: int, stream_id: str, where: str) -> StoredRecord:
    parsed = read_log_record(payload)
    if parsed is None:
        claims = Claims("", digest, sequence, ((stream_id, sequence),), where)
        return observe(payload, None, claims)
    original, outside = parsed
    record_id, stated_hash, stated_stream, stated_sequence = attribute_claims(outside.attributes)
    claims = Claims(
        record_id,
        digest or stated_hash,
        sequence,
        ((stream_id, sequence), (stated_stream, stated_sequence)),
        where,
    )
    fields = parse_original(original)
    differences: list[Difference] = []
    if fields is not None:
        differences = compare_outside(outside, fields)
        number = fields.get("audit.sequence.number")
        if stated_sequence != number:
            differences.append(Difference("audit.sequence.number", shown(number), str(stated_sequence)))
    if digest and stated_hash != digest and stated_hash != (actual := sha256(original).hexdigest()):
        differences.append(Difference("audit.integrity.value", actual, stated_hash or ABSENT))
    return observe(original, fields, claims, differences)
