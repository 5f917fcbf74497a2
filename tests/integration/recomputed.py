"""What an administrator without the signing key can do to the end of a stream: recompute its chain."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import orjson


def recompute(hits: list[dict[str, Any]], first: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The documents from sequence ``first`` on: the first one altered, all hashes and links recomputed."""
    previous = ""
    for hit in hits[first - 1 :]:
        source = dict(hit["_source"])
        fields = orjson.loads(source["event.original"])
        if previous:
            fields["audit.sequence.previous_hash"] = previous
        else:
            fields["event.outcome"] = fields["audit.outcome"] = "failure"
        original = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        previous = sha256(original).hexdigest()
        source.update({name: fields[name] for name in ("audit.outcome", "event.outcome") if name in fields})
        source["audit.sequence.previous_hash"] = fields["audit.sequence.previous_hash"]
        source["event.original"], source["event.hash"] = original.decode(), previous
        yield hit, source
