"""How the collector is named, locked and built; how Elasticsearch is unpacked."""

from __future__ import annotations

import re
import shutil
import zipfile

import pytest
import yaml

from mlaudit.catalog import names
from mlaudit.errors import StackError
from mlaudit.stack import collector_build, elasticsearch_fetch, progress, toolchain


@pytest.fixture
def sources(tmp_path):
    """A copy of the sources that a test may change."""
    for name in ("builder.yaml", "go.mod", "go.sum"):
        shutil.copyfile(collector_build.config_dir() / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["builder.yaml", "go.mod", "go.sum"])
def test_any_changed_source_makes_another_build(sources, name):
    """A build is reused only for exactly the same sources."""
    before = collector_build.build_key(sources, "go1.26.8")
    assert collector_build.build_key(sources, "go1.26.8") == before
    (sources / name).write_text((sources / name).read_text() + "\n")
    assert collector_build.build_key(sources, "go1.26.8") != before


def test_another_go_makes_another_build(sources):
    """The compiler is part of what is built."""
    assert collector_build.build_key(sources, "go1.26.8") != collector_build.build_key(sources, "go1.26.9")


def test_environment_cannot_weaken_the_lock():
    """The checksum database stays on, and go.mod is not changed by a build."""
    environment = collector_build.build_environment(
        {
            "PATH": "/bin",
            "GOPROXY": "https://proxy.example",
            "GOSUMDB": "off",
            "GONOSUMDB": "*",
            "GOINSECURE": "*",
            "GOPRIVATE": "*",
            "GOFLAGS": "-mod=mod -insecure",
        }
    )
    assert environment["PATH"] == "/bin"
    assert environment["GOPROXY"] == "https://proxy.example"
    assert environment["GOFLAGS"].startswith("-mod=readonly")
    assert not {"GOSUMDB", "GOINSECURE", "GOPRIVATE"} & set(environment)
    assert environment["GONOSUMDB"] == "none.invalid"


def test_every_component_of_the_builder_is_locked():
    """go.mod requires each module of builder.yaml in the very same version, and go.sum has its hash."""
    folder = collector_build.config_dir()
    modules = (folder / "go.mod").read_text()
    sums = (folder / "go.sum").read_text()
    listed = yaml.safe_load((folder / "builder.yaml").read_text())
    components = [
        entry["gomod"]
        for section in ("extensions", "receivers", "processors", "exporters", "connectors", "providers")
        for entry in listed[section]
    ]
    assert len(components) > 15
    for component in components:
        assert f"\t{component}\n" in modules
        assert f"{component} h1:" in sums


def test_minimum_go_is_what_the_locked_modules_ask_for():
    """A Go that is too old is reported before anything is downloaded."""
    wanted = re.search(
        r"^go (\d+)\.(\d+)", (collector_build.config_dir() / "go.mod").read_text(), re.MULTILINE
    )
    assert wanted is not None
    assert (int(wanted[1]), int(wanted[2])) == toolchain.GO_MINIMUM


def test_collector_configuration_knows_the_catalogs_special_fields():
    """Fields kept in the original only, and fields that must be objects, are named in collector.yaml."""
    text = (collector_build.config_dir() / "collector.yaml").read_text()
    pattern = re.search(r'delete_matching_keys\(cache\["parsed"\], "([^"]+)"\)', text)
    assert pattern is not None
    removed = {name for name in names.FIELD_TYPES if re.search(pattern[1], name)}
    assert removed == names.ORIGINAL_ONLY_FIELDS
    flattened = {name for name, kind in names.FIELD_TYPES.items() if kind == "flattened"}
    assert set(re.findall(r'not IsMap\(cache\["parsed"\]\["([^"]+)"\]\)', text)) == flattened


def test_what_the_collector_adds_is_in_the_catalog():
    """Each field that collector.yaml sets in a document has a mapping."""
    text = (collector_build.config_dir() / "collector.yaml").read_text()
    added = set(re.findall(r'set\(body\["([^"]+)"\]', text)) | set(re.findall(r'"(mlaudit\.\w+)":true', text))
    assert "event.hash" in added
    assert added - {"@timestamp", "audit.kind"} <= names.COLLECTOR_FIELDS


def test_unpacking_keeps_programs_executable_and_readable_by_all(tmp_path):
    """The unprivileged user must be able to run what root unpacked."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name, mode in (("x/bin/run", 0o700), ("x/lib/data", 0o600)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            bundle.writestr(entry, "content")
    elasticsearch_fetch.unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/x/bin/run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/x/lib/data").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "out/x").stat().st_mode & 0o777 == 0o755


def test_archive_that_would_leave_its_folder_is_refused(tmp_path):
    """An entry with .. in its name is not written."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("../escaped", "content")
    with pytest.raises(StackError, match="outside of its folder"):
        elasticsearch_fetch.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "escaped").exists()


@pytest.fixture
def maven(monkeypatch, tmp_path):
    """A stand-in for ``mvn`` that writes the given content; an empty cache."""
    monkeypatch.setenv("MLAUDIT_CACHE", str(tmp_path / "cache"))
    script = tmp_path / "bin/mvn"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")

    def write(body: str) -> None:
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)

    return write


def test_download_that_is_not_the_expected_file_is_refused(maven, tmp_path):
    """Nothing is unpacked from a file whose SHA-256 differs."""
    maven(
        'for a; do case $a in -DoutputDirectory=*) echo bad > "${a#*=}/elasticsearch-9.2.0.zip";; esac; done'
    )
    with pytest.raises(StackError, match=r"SHA-256 expected bf44938a\w+, found"):
        elasticsearch_fetch.elasticsearch_home(lambda _: None)
    assert not (tmp_path / "cache/elasticsearch-9.2.0").exists()


def test_failed_download_shows_what_maven_said(maven):
    """The error contains the last lines of Maven's output."""
    maven("echo 'Could not resolve host'; exit 1")
    with pytest.raises(StackError, match=r"failed with exit code 1(.|\n)*Could not resolve host"):
        elasticsearch_fetch.elasticsearch_home(lambda _: None)


def test_long_step_reports_its_time_and_last_line(monkeypatch, tmp_path):
    """Progress is visible while a step runs, not only at its end."""
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.05)
    said: list[str] = []
    gate = tmp_path / "gate"

    def report(line: str) -> None:
        said.append(line)
        if "working" in line:
            gate.touch()

    progress.run(
        "step",
        ["/bin/sh", "-c", f"echo working; while [ ! -e {gate} ]; do sleep 0.02; done"],
        log=tmp_path / "log",
        report=report,
        environment={"PATH": "/usr/bin:/bin"},
        folder=tmp_path,
        seconds=30,
    )
    assert said[0] == "step"
    assert any(line.startswith("step, ") and "working" in line for line in said)
