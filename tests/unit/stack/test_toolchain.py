"""The required tools of a machine, and the errors for missing ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlaudit.errors import StackError
from mlaudit.stack import toolchain
from mlaudit.stack.toolchain import Missing


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without JDK, Go and Maven; returns the only folder on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("MLAUDIT_JAVA_HOME", "ES_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(toolchain, "_JVM_FOLDERS", ())
    return folder


def executable(path: Path, output: str) -> Path:
    """A program that prints ``output``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


def java_home(path: Path, version: str) -> Path:
    """A folder that looks like a JDK of that version."""
    executable(path / "bin/java", "")
    (path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return path


def test_everything_that_is_missing_is_named_at_once(bare):
    """One error lists Java, Go and Maven, each with the way to get it."""
    with pytest.raises(StackError) as caught:
        toolchain.require([toolchain.find_java(), toolchain.find_go(), toolchain.find_maven()])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "Java 21 or newer (runs Elasticsearch): found none; install one" in lines[1]
    assert "Go 1.25 or newer (builds the collector): no `go` on the PATH; install" in lines[2]
    assert "Maven (fetches Elasticsearch): no `mvn` on the PATH; install it, e.g. `apt-get" in lines[3]


def test_nothing_missing_raises_nothing(bare):
    """A machine with all programs raises nothing."""
    toolchain.require([executable(bare / "mvn", ""), toolchain.find_maven()])


def test_java_that_is_too_old_is_named(bare, monkeypatch, tmp_path):
    """A JDK 17 does not count, and the message says that it was seen."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "jdk17", "17.0.15")))
    found = toolchain.find_java()
    assert isinstance(found, Missing)
    assert "jdk17 is version 17" in found.found


def test_newer_java_elsewhere_is_found_beside_an_old_default(bare, monkeypatch, tmp_path):
    """An old default does not hide a newer JDK in the usual folders."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "default", "17.0.15")))
    newer = java_home(tmp_path / "jvm/temurin-25", "25.0.1")
    monkeypatch.setattr(toolchain, "_JVM_FOLDERS", (str(tmp_path / "jvm"),))
    assert toolchain.find_java() == newer


def test_java_that_the_unprivileged_user_cannot_read_is_named(bare, monkeypatch, tmp_path):
    """A JDK that only root can read is reported as unusable for Elasticsearch."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "jdk", "25")))
    found = toolchain.find_java(lambda _: False)
    assert isinstance(found, Missing)
    assert "cannot be read by the unprivileged user" in found.found


def test_java_without_a_release_file_is_asked(bare, monkeypatch, tmp_path):
    """Without a release file the version is read from the program itself."""
    executable(tmp_path / "jdk/bin/java", 'openjdk version "21.0.2" 2024-01-16')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert toolchain.find_java() == tmp_path / "jdk"


@pytest.mark.parametrize("version", ["go1.24.9", "go1.9", "nonsense"])
def test_go_that_is_too_old_is_named(bare, version):
    """An old or broken Go is reported with its output."""
    executable(bare / "go", version)
    found = toolchain.find_go()
    assert isinstance(found, Missing)
    assert version in found.found


@pytest.mark.parametrize("version", ["go1.25.0", "go1.26.8", "go2.0"])
def test_go_that_is_new_enough_is_found(bare, version):
    """Versions are compared as numbers."""
    assert toolchain.find_go() != executable(bare / "go", version)
    assert toolchain.find_go() == bare / "go"
