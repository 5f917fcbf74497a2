"""Regenerating and checking generated files, with a generator of the test's own and with the real ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tools import generate
from tools.generate import Difference, Generator, differences, regenerate

from mlaudit.errors import CatalogError

ROOT = Path(__file__).resolve().parents[3]


def _generator(**outputs: str) -> Generator:
    content = {name.replace("_", "/") + ".txt": text for name, text in outputs.items()}
    return cast("Generator", SimpleNamespace(OWNED=("out/**/*.txt",), outputs=lambda root: content))


def test_committed_files_are_as_generated() -> None:
    """Whatever is generated from the catalog is committed as its generator writes it."""
    assert differences(ROOT, generate.generators()) == []


def test_difference_is_named(tmp_path: Path) -> None:
    """A missing, a changed and a left-over file are each named with their state; others are not."""
    (tmp_path / "out").mkdir()
    for name in ("same", "changed", "old"):
        (tmp_path / f"out/{name}.txt").write_text(name, encoding="utf-8")
    module = _generator(out_same="same", out_changed="new text", out_new="new")
    assert differences(tmp_path, [module]) == [
        Difference("out/changed.txt", "differs"),
        Difference("out/new.txt", "missing"),
        Difference("out/old.txt", "stale"),
    ]


def test_regenerating_leaves_nothing_to_do(tmp_path: Path) -> None:
    """After regenerating, files are as wanted, left-overs are gone, and a second run changes nothing."""
    stale = tmp_path / "out/old.txt"
    stale.parent.mkdir()
    stale.write_text("old", encoding="utf-8")
    module = _generator(out_a_b="deep € text\n")
    assert [one.state for one in regenerate(tmp_path, [module])] == ["missing", "stale"]
    assert (tmp_path / "out/a/b.txt").read_bytes() == "deep € text\n".encode()
    assert not stale.exists()
    assert regenerate(tmp_path, [module]) == []


def test_line_endings_count(tmp_path: Path) -> None:
    """A file that differs only in its line endings differs."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_bytes(b"x\r\n")
    assert differences(tmp_path, [_generator(out_a="x\n")]) == [Difference("out/a.txt", "differs")]


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a checkout there is nothing to regenerate, and the error says that it needs one."""
    monkeypatch.setattr(generate, "__file__", str(tmp_path / "lib/tools/generate.py"))
    with pytest.raises(CatalogError, match="expected a checkout"):
        generate.repository()


@pytest.mark.parametrize(("spoil", "code"), [(False, 0), (True, 1)])
def test_check_command_exits_1_for_a_difference(tmp_path: Path, spoil: bool, code: int) -> None:
    """``python -m tools.generate --check`` in a checkout exits 1 and names the file that differs, else 0."""
    for name in ("src", "tools", "docs", "detections", "dashboards", "collector-config", "constraints"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if spoil:
        (tmp_path / "docs/events.md").write_text("mine", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tools.generate", "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("docs/events.md: differs" in done.stdout) is spoil
