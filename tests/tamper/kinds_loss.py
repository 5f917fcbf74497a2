"""Tampers that remove records: single ones, ranges, beginnings, ends, streams, and ends of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.tamper.entry import Entry
from tests.tamper.file_stores import Archive
from tests.tamper.scene import Expected, Scene, Tamper
from tests.tamper.stores import Edit

from mlaudit.seal.checkpoint import Checkpoint


def _without(scene: Scene, entries: Iterable[Entry], checkpoints: Iterable[Checkpoint] = ()) -> Tamper | None:
    """Removes entries; None when the removal could not be detected completely."""
    gone = list(entries)
    points = list(checkpoints)
    expected = scene.missing(_by_stream(gone), points)
    if expected is None:
        return None
    return Tamper(Edit(changed=dict.fromkeys(gone)), expected, points)


def _by_stream(entries: Iterable[Entry]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for entry in entries:
        found.setdefault(entry.stream, set()).add(entry.sequence)
    return found


def _until_shown(make: Callable[[Scene], Tamper | None]) -> Callable[[Scene], Tamper | None]:
    """Picks again while the removal could not be detected."""

    def again(scene: Scene) -> Tamper | None:
        for _ in range(100):
            tamper = make(scene)
            if tamper is not None:
                return tamper
        return None

    return again


@_until_shown
def deleted(scene: Scene) -> Tamper | None:
    """One record is deleted: any one, including the first, a checkpoint or the last."""
    stream = scene.streams[scene.any_stream()]
    chosen = scene.random.choice(
        [
            scene.random.choice(stream),
            scene.random.choice(stream),
            stream[0],
            stream[-1],
            scene.random.choice(stream),
        ]
    )
    return _without(scene, [chosen])


@_until_shown
def deleted_range(scene: Scene) -> Tamper | None:
    """Several records in a row are deleted."""
    stream = scene.streams[scene.any_stream()]
    first = scene.random.randrange(1, len(stream) - 2)
    return _without(scene, stream[first : first + scene.random.randint(2, 80)])


@_until_shown
def deleted_scattered(scene: Scene) -> Tamper | None:
    """Records of several streams are deleted at once."""
    gone = {id(entry): entry for entry in (scene.any_entry() for _ in range(5))}
    return _without(scene, gone.values())


def cut_start(scene: Scene) -> Tamper | None:
    """The first records of a stream are deleted."""
    stream = scene.streams[scene.any_stream()]
    return _without(scene, stream[: scene.random.randint(1, len(stream) - 2)])


@_until_shown
def deleted_tail(scene: Scene) -> Tamper | None:
    """The end of a stream is deleted, checkpoints included; a later stream reveals it."""
    stream = scene.streams[scene.any_stream(set(scene.links))]
    return _without(scene, stream[-scene.random.randint(1, len(stream) - 2) :])


def deleted_tail_exported(scene: Scene) -> Tamper | None:
    """The end of any stream is deleted, also of the newest; an exported checkpoint reveals it."""
    stream = scene.streams[scene.any_stream()]
    count = scene.random.randint(1, len(stream) - 2)
    return _without(scene, stream[-count:], [scene.export(stream[0].stream)])


@_until_shown
def deleted_tail_but_checkpoints(scene: Scene) -> Tamper | None:
    """All records after one are deleted, except the checkpoints."""
    name = scene.any_stream()
    stream, signed = scene.streams[name], scene.signed(name)
    count = scene.random.randint(10, len(stream) - 2)
    return _without(scene, [entry for entry in stream[-count:] if entry.sequence not in signed])


@_until_shown
def deleted_stream(scene: Scene) -> Tamper | None:
    """A whole stream is deleted; another one names it."""
    return _without(scene, scene.streams[scene.any_stream()])


def deleted_stream_exported(scene: Scene) -> Tamper | None:
    """A whole stream is deleted, also the newest; an exported checkpoint names it."""
    stream = scene.streams[scene.any_stream()]
    return _without(scene, stream, [scene.export(stream[0].stream)])


def without_end(scene: Scene) -> Tamper | None:
    """The record that closed an abandoned stream is deleted, so that it never ended."""
    closed = [
        stream[-1]
        for name, stream in sorted(scene.streams.items())
        if name in scene.links and scene.links[name][1] < len(stream)
    ]
    return _without(scene, [scene.random.choice(closed)]) if closed else None


KINDS = {
    "record deleted": deleted,
    "range deleted": deleted_range,
    "scattered records deleted": deleted_scattered,
    "start cut": cut_start,
    "tail deleted": deleted_tail,
    "tail deleted, checkpoint exported": deleted_tail_exported,
    "tail deleted but for its checkpoints": deleted_tail_but_checkpoints,
    "stream never ended": without_end,
}
# A delivered stream leaves the spool, so its absence there is not a finding.
COMPLETE = {
    "stream deleted": deleted_stream,
    "stream deleted, checkpoint exported": deleted_stream_exported,
}


# -- files -------------------------------------------------------------------------------------------------


def _behind(scene: Scene, entry: Entry) -> list[Entry]:
    """The entries of an archive's lines after that of ``entry``."""
    return [other for other in scene.store.entries if other.place[0] > entry.place[0]]


def _all_points(scene: Scene) -> list[Checkpoint]:
    return [scene.export(stream) for stream in sorted(scene.streams)]


def archive_truncated(scene: Scene) -> Tamper | None:
    """The archive ends early, at the end of a line; exported checkpoints reveal it."""
    entry = scene.random.choice(scene.store.entries)
    gone = _behind(scene, entry)
    if not gone:
        return None
    points = _all_points(scene)
    expected = scene.missing(_by_stream(gone), points)
    return Tamper(Edit(cut=(entry, 0)), expected or [], points)


def archive_torn(scene: Scene) -> Tamper | None:
    """The archive ends in the middle of a line; this and the missing records are reported."""
    assert isinstance(scene.store, Archive)
    entry = scene.random.choice(scene.store.entries)
    gone = [*scene.store.of_line(entry.place[0]), *_behind(scene, entry)]
    points = _all_points(scene)
    expected = scene.missing(_by_stream(gone), points)
    return Tamper(
        Edit(cut=(entry, -scene.random.randint(3, 200))),
        [*(expected or []), Expected("source.torn", "")],
        points,
    )


@_until_shown
def line_damaged(scene: Scene) -> Tamper | None:
    """A line in the middle is unreadable; this and the missing records are reported."""
    assert isinstance(scene.store, Archive)
    entry = scene.random.choice(scene.store.entries)
    points = _all_points(scene)
    lost = scene.store.of_line(entry.place[0])
    expected = scene.missing(_by_stream(lost), points)
    if expected is None:
        return None
    return Tamper(Edit(broken=tuple(lost)), [*expected, Expected("source.damaged", "")], points)


def line_repeated(scene: Scene) -> Tamper | None:
    """A line is stored twice, as after a repeated send: information."""
    assert isinstance(scene.store, Archive)
    number = scene.random.randrange(scene.store.lines)
    expected: list[Expected] = []
    for entry in scene.store.of_line(number):  # by stream and sequence; neighbours are reported together
        last = expected[-1] if expected else Expected("", "")
        if (last.stream, last.through + 1) == (entry.stream, entry.sequence):
            expected[-1] = last._replace(through=entry.sequence)
        else:
            expected.append(scene.at(entry, "replay.identical"))
    return Tamper(Edit(), expected, repeat_line=number)


@_until_shown
def line_deleted(scene: Scene) -> Tamper | None:
    """A whole line is deleted."""
    assert isinstance(scene.store, Archive)
    entry = scene.random.choice(scene.store.entries)
    return _without(scene, scene.store.of_line(entry.place[0]))


ARCHIVE = {
    **COMPLETE,
    "archive truncated, checkpoints exported": archive_truncated,
    "archive torn, checkpoints exported": archive_torn,
    "archive line damaged": line_damaged,
    "archive line repeated": line_repeated,
    "archive line deleted": line_deleted,
}


def segment_torn(scene: Scene) -> Tamper | None:
    """A segment ends in the middle of a frame; this is reported, and that the stream had more records."""
    stream = scene.streams[scene.any_stream()]
    entry = scene.random.choice(stream[1:])
    gone = [other for other in stream if other.sequence >= entry.sequence and other.place == entry.place]
    points = [scene.export(entry.stream)]
    rest = {other.sequence for other in stream} - {other.sequence for other in gone}
    expected = scene.missing({entry.stream: {other.sequence for other in gone}}, points) if rest else None
    if expected is None:
        return None
    cut = -scene.random.randint(1, 200)
    return Tamper(Edit(cut=(entry, cut)), [*expected, Expected("source.torn", entry.stream)], points)


def frames_swapped(scene: Scene) -> Tamper | None:
    """Two neighbouring frames of a segment are swapped."""
    stream = scene.streams[scene.any_stream()]
    index = scene.random.randrange(len(stream) - 1)
    one, other = stream[index], stream[index + 1]
    if one.place != other.place:
        return None
    return Tamper(
        Edit(changed={one: other, other: one}),
        [Expected("order.swapped", one.stream, one.sequence, other.sequence)],
    )


SPOOL = {
    "spool segment torn, checkpoint exported": segment_torn,
    "spool frames swapped": frames_swapped,
}
