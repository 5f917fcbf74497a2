from __future__ import annotations

from pathlib import Path

import pytest

from mlaudit.pipeline.service_memory import Memory
from mlaudit.policy.compare import snapshot
from mlaudit.policy.evaluate import compile_policy
from mlaudit.policy.load import parse_policy

POLICY = """
version: 1
revisions: [{number: %d, date: 2026-01-0%d, changes: c, reason: r, sections: [3]}]
rules: [{name: all, level: %s}]
"""


def events(memory: Memory, number: int, level: str) -> list[tuple[str, object, object]]:
    """Kind, lowered and previous digest of the event when a service starts under a policy."""
    policy = parse_policy(POLICY % (number, number, level), "p")
    told = memory.policy_events(compile_policy(policy, b"k"), snapshot(policy), None)
    return [
        (e.kind, e.fields.get("audit.policy.lowered"), e.fields.get("audit.policy.previous_digest"))
        for e in told
    ]


def test_a_changed_policy_is_told_with_the_one_before(tmp_path: Path) -> None:
    """The same policy is loaded, another one is a change, and a weaker one is named as lowered."""
    first = events(Memory(tmp_path, "s"), 1, "full")
    assert first == [("audit.policy.loaded", None, None)]
    assert events(Memory(tmp_path, "s"), 1, "full") == first
    ((kind, is_lowered, previous),) = events(Memory(tmp_path, "s"), 2, "metadata")
    assert (kind, is_lowered) == ("audit.policy.changed", True)
    assert previous == parse_policy(POLICY % (1, 1, "full"), "p").digest
    ((kind, is_lowered, _),) = events(Memory(tmp_path, "s"), 3, "full")
    assert (kind, is_lowered) == ("audit.policy.changed", False)


def test_services_do_not_share_their_memory(tmp_path: Path) -> None:
    """Services do not read each other's memory, whatever characters their names contain."""
    Memory(tmp_path, "a/b").note_stream("s1", 5, "ff", ended=True)
    last = Memory(tmp_path, "a/b").last_stream
    assert last is not None
    assert (last.id, last.sequence, last.hash, last.ended) == ("s1", 5, "ff", True)
    assert Memory(tmp_path, "other").last_stream is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stream": 3}', b'{"stream": {"id": "x"}}', b"\xff"])
def test_a_damaged_memory_costs_links_only(tmp_path: Path, content: bytes) -> None:
    """An unreadable memory file is treated as absent, and rewritten."""
    Memory(tmp_path, "s").put("x", 1)
    (file,) = (tmp_path / "services").iterdir()
    file.write_bytes(content)
    memory = Memory(tmp_path, "s")
    assert memory.last_stream is None
    memory.put("x", 2)
    assert Memory(tmp_path, "s").get("x") == 2


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """When the memory cannot be written, the service continues."""
    (tmp_path / "services").write_text("in the way")
    memory = Memory(tmp_path, "s")
    memory.put("x", 1)
    assert memory.get("x") == 1
