from __future__ import annotations

import os
import re
import threading

from mlaudit.event import new_record_id

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_record_ids_are_unique_ordered_uuids() -> None:
    """Record ids from many threads are UUIDv7 and never repeat."""
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.extend(new_record_id() for _ in range(2000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 8000
    assert all(UUID7.fullmatch(text) for text in ids)


def test_a_forked_child_has_ids_of_its_own() -> None:
    """A child does not hand out the ids that its parent prepared."""
    new_record_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "\n".join(new_record_id() for _ in range(300)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        childs = set(file.read().split("\n"))
    os.waitpid(child, 0)
    assert len(childs) == 300
    mine = {new_record_id().split("-", 2)[2] for _ in range(600)}
    assert not mine & {text.split("-", 2)[2] for text in childs}
