"""The software a service runs on, and how it changed since the last start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import environment
from mlaudit.capture.process.environment import (
    changes,
    code_revision,
    compare_with_last_start,
    digest,
    software,
    vcs_revision,
)
from mlaudit.catalog.names import ENVIRONMENT_CHANGED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = ENVIRONMENT_CHANGED


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, without hooks."""
    with capture(instrument=False) as found:
        yield found


def test_packages_are_read_from_their_metadata_folders(tmp_path: Path) -> None:
    """Names and versions come from the folders' names; an earlier place wins, as in an import."""
    for place, names in {
        "a": ["scikit_learn-1.9.1.dist-info", "old_egg-1.0-py3.11.egg-info", "not-a-package"],
        "b": ["scikit_learn-1.8.0.dist-info", "joblib-1.6.0.dist-info"],
    }.items():
        for name in names:
            (tmp_path / place / name).mkdir(parents=True)
    found = software([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "missing")])
    assert found["scikit-learn"] == "1.9.1"
    assert found["joblib"] == "1.6.0"
    assert found["old-egg"] == "1.0"
    assert "not-a-package" not in found
    assert found["python"]


def test_real_software_has_what_runs_here() -> None:
    """In this environment the installed packages are found."""
    assert {"scikit-learn", "joblib", "numpy"} <= software().keys()


def test_changes_are_sentences() -> None:
    """Every difference is recorded as name, old and new version."""
    assert changes({"a": "1", "b": "1"}, {"a": "2", "c": "1"}) == [
        "a 1 -> 2",
        "b 1 -> (none)",
        "c (none) -> 1",
    ]
    assert changes({"a": "1"}, {"a": "1"}) == []


def test_first_start_tells_nothing_and_a_change_is_told_once(log: AuditLog) -> None:
    """The first start has nothing to compare with; an upgrade is recorded at the next, and then is the new normal."""
    compare_with_last_start(log.pipeline, {"numpy": "2.4.5"})
    assert log.kinds() == []
    for _ in range(2):
        compare_with_last_start(log.pipeline, {"numpy": "2.4.6"})
    (record,) = log.of(KIND)
    assert record["audit.environment.changes"] == ["numpy 2.4.5 -> 2.4.6"]
    assert record["audit.environment.digest"] == digest({"numpy": "2.4.6"})
    assert record["audit.guarantee"] == "durable"


def test_update_is_told_by_name_and_version(log: AuditLog) -> None:
    """Packages added, removed and updated, the commit before and now: each in a field of its own."""
    compare_with_last_start(log.pipeline, {"numpy": "2.4.5", "tensorflow": "2.20.0", "revision": "a" * 40})
    compare_with_last_start(log.pipeline, {"numpy": "2.4.6", "torch": "2.9.0", "revision": "b" * 40})
    (record,) = log.of(KIND)
    assert record["audit.environment.added"] == ["torch 2.9.0"]
    assert record["audit.environment.removed"] == ["tensorflow 2.20.0"]
    assert record["audit.environment.updated"] == ["numpy 2.4.5 -> 2.4.6"]
    assert record["audit.environment.previous_revision"] == "a" * 40
    assert record["vcs.ref.head.revision"] == "b" * 40


def test_new_image_is_a_change(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of the image that the environment names is compared like a version."""
    for digit in "12":
        digest_ = f"sha256:{digit * 64}"
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"container.image.repo_digests=r/loan@{digest_}")
        compare_with_last_start(log.pipeline, software([]))
    (record,) = log.of(KIND)
    assert f"image digest sha256:{'1' * 64} -> {digest_}" in record["audit.environment.updated"]
    assert record["container.image.hash.all"] == [digest_]
    assert "audit.environment.previous_revision" not in record


def test_revision_is_said_found_or_left_by_the_build(tmp_path: Path) -> None:
    """What OpenTelemetry's variable says goes first, then the checkout, then a variable of the build."""
    built = {"GITHUB_SHA": "b" * 40, "GIT_COMMIT": "not a commit"}
    said = {**built, "OTEL_RESOURCE_ATTRIBUTES": "vcs.ref.head.revision=v7"}
    assert code_revision(built, tmp_path) == "b" * 40
    assert code_revision({}, tmp_path) == ""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("c" * 40)
    assert code_revision(built, tmp_path) == "c" * 40
    assert code_revision(said, tmp_path) == "v7"


def test_variables_are_told_by_name_only(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that changes what runs is recorded as changed; neither value is in the record or in the memory."""
    monkeypatch.setenv("PYTHONPATH", "/srv/secret-place")
    compare_with_last_start(log.pipeline, {})
    monkeypatch.setenv("PYTHONPATH", "/srv/other-secret")
    monkeypatch.setenv("OMP_NUM_THREADS_TEST", "1")
    compare_with_last_start(log.pipeline, {})
    (record,) = log.of(KIND)
    assert record["audit.environment.changes"] == [
        "variable OMP_NUM_THREADS_TEST added",
        "variable PYTHONPATH changed",
    ]
    state = next(log.pipeline.settings.state_dir.rglob("*.environment.json")).read_text()
    assert "secret" not in state + str(record)


def test_ticket_of_the_deployment_is_in_the_record() -> None:
    """Who approved the deployment, under which ticket, is recorded with what it changed."""
    env = {"MLAUDIT_CHANGE_TICKET": "CHG-7", "MLAUDIT_CHANGE_APPROVER": "bob"}
    with capture(env=env, instrument=False) as log:
        compare_with_last_start(log.pipeline, {"a": "1"})
        compare_with_last_start(log.pipeline, {"a": "2"})
    record = log.of(KIND)[0]
    assert record["ml.change.ticket"] == "CHG-7"
    assert record["ml.change.approver"].startswith("hmac:")


def test_many_changes_are_cut(log: AuditLog) -> None:
    """A new base image does not make a record of thousands of lines."""
    compare_with_last_start(log.pipeline, {str(number): "1" for number in range(1000)})
    compare_with_last_start(log.pipeline, {str(number): "2" for number in range(1000)})
    recorded = log.of(KIND)[0]["audit.environment.changes"]
    assert len(recorded) == environment.MAX_CHANGES + 1
    assert recorded[-1] == "and 800 more"


def test_damaged_memory_is_an_error_that_says_what_to_do(log: AuditLog) -> None:
    """A memory that cannot be read is refused, not taken for a first start."""
    compare_with_last_start(log.pipeline, {})
    path = next(log.pipeline.settings.state_dir.rglob("*.environment.json"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="move the file to start over"):
        compare_with_last_start(log.pipeline, {})


@pytest.mark.parametrize("packed", [False, True])
def test_revision_is_read_from_git_without_git(tmp_path: Path, packed: bool) -> None:
    """The commit is found from a folder below the checkout, in a loose or a packed reference."""
    commit = "a" * 40
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{commit}\n")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    assert vcs_revision(tmp_path / "src" / "deep") == commit


def test_revision_of_a_worktree_and_of_a_detached_head(tmp_path: Path) -> None:
    """A worktree's reference lives in the main checkout; a detached head is the commit itself."""
    commit = "b" * 40
    main = tmp_path / "main" / ".git"
    (main / "worktrees" / "w").mkdir(parents=True)
    (main / "refs" / "heads").mkdir(parents=True)
    (main / "refs" / "heads" / "topic").write_text(commit)
    (main / "worktrees" / "w" / "HEAD").write_text("ref: refs/heads/topic")
    (main / "worktrees" / "w" / "commondir").write_text("../..")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main / 'worktrees' / 'w'}\n")
    assert vcs_revision(tree) == commit
    (main / "HEAD").write_text(commit)
    assert vcs_revision(tmp_path / "main") == commit


@pytest.mark.parametrize("content", ["ref: refs/heads/missing", "", "\udcff"])
def test_damaged_git_folder_is_no_revision(tmp_path: Path, content: Any) -> None:
    """What cannot be read costs the revision only."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert vcs_revision(tmp_path) == ""
