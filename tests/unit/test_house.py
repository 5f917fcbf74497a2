"""One of each thing: what has one module of its own is done by it alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for top in ("src/mlaudit", "tools")
    for path in sorted((ROOT / top).rglob("*.py"))
}
#: What may stand only in some files, and why there.
ONLY_IN = {
    r"\bflock\(|\blockf\(": {"src/mlaudit/safety/file_lock.py"},
    r"search_after|point_in_time\(|after_key": {"src/mlaudit/cluster/page.py"},
    r"yaml\.(\w*load\w*|compose|BaseLoader|SafeLoader)": {
        "src/mlaudit/safety/strict_yaml.py",
        "src/mlaudit/capture/process/dangerous_names.py",  # names what others call
    },
    r"(?<!from)isoformat\(|%Y-%m-%dT": {
        "src/mlaudit/rfc3339.py",
        "src/mlaudit/capture/data/digest.py",  # a value of a data set, as the digest's format says
    },
    r"min\([\w.]+ ?\* ?[\w.]+, \w|\*= ?2\b|random\.uniform": {
        "src/mlaudit/safety/backoff.py",
        "src/mlaudit/deliver/send/sender.py",  # hands its jitter to the back-off
    },
    r"popitem\(last|OrderedDict\(|pop\(next\(iter\(": {
        "src/mlaudit/safety/bounded_map.py",
    },
    r"[\"']_assets[\"']": {"src/mlaudit/install/packaged.py"},
    r"parse_env_headers": {"src/mlaudit/settings/reading.py"},
}
#: Files of one name whose folders are of one subject each; a command or a library is named as it is called.
TWICE = {"__init__.py", "__main__.py", "credentials.py", "load.py", "model.py"}
NAMED_BY_OTHERS = ("src/mlaudit/cli/", "src/mlaudit/capture/libraries/", "tools/")


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_what_has_a_module_is_done_by_it_alone(pattern: str) -> None:
    """A second lock, pager, reader or writer does not come back; a module that lost its own is noticed as well."""
    found = {name for name, text in SOURCES.items() if re.search(pattern, text)}
    assert found == ONLY_IN[pattern]


def test_file_names_say_what_is_in_them() -> None:
    """No file is called by what it is to its folder."""
    empty = {"commands", "interface", "elasticsearch", "utils", "helpers", "manager", "common", "misc"}
    assert not {name for name in SOURCES if Path(name).stem in empty}


def test_no_two_files_have_one_name() -> None:
    """A search for a file finds one."""
    names = Counter(Path(name).name for name in SOURCES if not name.startswith(NAMED_BY_OTHERS))
    assert {name for name, count in names.items() if count > 1} <= TWICE


def test_the_patterns_find_what_they_are_for() -> None:
    """Each would find the way in which the thing was done by hand before."""
    by_hand = [
        "fcntl.flock(handle, fcntl.LOCK_EX)",
        "search_after=after,",
        "yaml.safe_load(text)",
        'moment.isoformat(timespec="milliseconds")',
        "self._backoff = min(self._backoff * 2, _LAST)",
        "self._runs.popitem(last=False)",
        'parent / "_assets" / "detections"',
        "parse_env_headers(text)",
    ]
    assert [bool(re.search(pattern, text)) for pattern, text in zip(ONLY_IN, by_hand, strict=True)] == [
        True
    ] * 8
    assert not re.search(list(ONLY_IN)[3], "datetime.fromisoformat(text)")
