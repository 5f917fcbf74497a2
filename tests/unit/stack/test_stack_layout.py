"""Where a stack keeps its files."""

from __future__ import annotations

import pytest

from mlaudit.stack import stack_layout as layout_module
from mlaudit.stack.cache import cache_dir, preparing, sha256_of
from mlaudit.stack.stack_layout import layout_of, reachable, write_private

NOBODY = 65534


@pytest.fixture
def as_root(monkeypatch, tmp_path):
    """As if we were root, with a cache folder of our own."""
    monkeypatch.setattr(layout_module, "unprivileged_uid", lambda: NOBODY)
    monkeypatch.setenv("MLAUDIT_CACHE", str(tmp_path / "cache"))


def test_folder_that_is_closed_to_others_cannot_be_reached(tmp_path):
    """Every folder on the way counts."""
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "closed" / "open").chmod(0o755)
    assert not reachable(tmp_path / "closed" / "open", NOBODY)
    assert not reachable(tmp_path / "closed" / "absent", NOBODY)


def test_data_is_beside_the_state_for_an_ordinary_user(monkeypatch, tmp_path):
    """For an ordinary user data is next to the state."""
    monkeypatch.setattr(layout_module, "unprivileged_uid", lambda: None)
    assert layout_of(tmp_path / "stack").run == tmp_path / "stack" / "run"


def test_data_moves_to_the_cache_where_the_unprivileged_user_cannot_go(as_root, tmp_path):
    """Root's private folder stays private; two stacks do not share data."""
    tmp_path.chmod(0o700)
    one, two = layout_of(tmp_path / "one"), layout_of(tmp_path / "two")
    assert one.run.is_relative_to(tmp_path / "cache" / "run")
    assert one.run != two.run
    assert one.run == layout_of(tmp_path / "one").run
    assert one.state == tmp_path / "one" / "stack.json"


def test_private_file_is_never_open_and_replaces_the_old_one(tmp_path):
    """Also when the file was there, readable by all."""
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_cache_folder_is_chosen_by_the_environment_and_made(monkeypatch, tmp_path):
    """MLAUDIT_CACHE comes first."""
    monkeypatch.setenv("MLAUDIT_CACHE", str(tmp_path / "a" / "b"))
    assert cache_dir() == tmp_path / "a" / "b"
    assert cache_dir().is_dir()


def test_second_preparation_waits_and_says_so(monkeypatch, tmp_path):
    """While one process prepares something, another reports that it waits."""
    import threading

    monkeypatch.setenv("MLAUDIT_CACHE", str(tmp_path))
    said: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    def report(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with preparing("thing", report):
            entered.set()

    with preparing("thing", said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == ["waiting for another mlaudit process that prepares thing"]


def test_digest_of_a_file(tmp_path):
    """The known SHA-256 of "abc" (FIPS 180-2)."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected
