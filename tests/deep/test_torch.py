"""Files of PyTorch under audit."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.capture.libraries.torch import state_digest, weights_only
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of PyTorch."""
    with hooked("torch") as found:
        yield found


def network() -> torch.nn.Module:
    """A small one."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))


def sha(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_state_dict_is_recorded_with_the_digest_of_file_and_weights(log: AuditLog, tmp_path: Path) -> None:
    """The file's digest changes with its container, that of the weights with the weights alone."""
    model = network()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    torch.save({"model_state_dict": model.state_dict(), "epoch": 3}, str(tmp_path / "checkpoint.pt"))
    first, second = log.of(SAVED)
    assert first["ml.model.digest"] == sha(tmp_path / "net.pt")
    assert first["ml.model.class"] == "torch.nn.modules.module.Module"
    assert first["ml.model.library_version"] == torch.__version__
    assert first["labels"]["content"] == "state_dict"
    assert first["audit.target.id"] == "net@1"
    assert first["labels"]["state.digest"] == second["labels"]["state.digest"]
    assert first["ml.model.digest"] != second["ml.model.digest"]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert state_digest(model.state_dict()) != first["labels"]["state.digest"]


def test_loading_is_recorded_before_and_says_what_the_file_may_do(log: AuditLog, tmp_path: Path) -> None:
    """A load records digest, registration, the pickle's first class, and whether loading may run code."""
    path = tmp_path / "net.pt"
    torch.save(network().state_dict(), path)
    state = torch.load(path)
    whole = tmp_path / "whole.pt"
    torch.save(network(), whole)
    module = torch.load(whole, weights_only=False)
    assert isinstance(module, torch.nn.Sequential)
    assert set(state) == set(module.state_dict())
    one, two = log.of(LOADED)
    assert one["ml.model.digest"] == sha(path)
    assert one["ml.model.registration"] == two["ml.model.registration"] == "match"
    assert one["labels"]["weights_only"] == weights_only(None)
    assert two["labels"]["weights_only"] == "false"
    assert two["ml.model.class"] == "torch.nn.modules.container.Sequential"
    assert log.of(SAVED)[1]["labels"]["content"] == "module"
    torch.save(module, tmp_path / "copy.pt")
    assert log.of(SAVED)[2]["ml.model.name"] == "whole"


def test_whether_only_weights_are_read_follows_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default changed with 2.6, and two variables overrule it."""
    assert weights_only(True) == "true"
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert weights_only(None) == "false"
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    assert weights_only(None) == "true"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert weights_only(None) == "false"
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    assert weights_only(False) == "true"


def test_what_is_no_model_is_saved_in_silence(log: AuditLog, tmp_path: Path) -> None:
    """Saved tensors, optimizers and buffers leave no record."""
    model = network()
    torch.save(torch.zeros(3), tmp_path / "data.pt")
    torch.save(torch.optim.SGD(model.parameters(), lr=0.1).state_dict(), tmp_path / "optimizer.pt")
    torch.save(model.state_dict(), io.BytesIO())
    assert log.kinds() == []


def test_a_file_saved_in_a_stated_run_is_of_that_run(log: AuditLog, tmp_path: Path) -> None:
    """A training loop has no hook for its start: the program states the run, and the file is linked to it."""
    model = network()
    with mlaudit.training_run("net") as run:
        for step in range(3):
            loss = model(torch.ones(2, 4)).sum()
            loss.backward()
            run.log_metric("loss", loss.item() + step)
        torch.save(model.state_dict(), tmp_path / "anything.pt")
    (saved,) = log.of(SAVED)
    assert saved["ml.training.run_id"] == run.run_id
    assert saved["ml.model.name"] == "net"


def test_tensors_have_the_digest_of_the_same_array(log: AuditLog) -> None:
    """Device and gradient of a tensor do not change its digest; half precision is digested by its bits."""
    array = np.arange(6, dtype="float32").reshape(2, 3)
    tensor = torch.tensor(array, requires_grad=True)
    assert digest(tensor) == digest(array)
    assert digest({"a": tensor}) == digest({"a": array})
    assert digest(tensor.to(torch.bfloat16)) not in ("", digest(array))
    assert digest(torch.zeros(20_000_000)).startswith("sampled:")


def test_files_that_fail_are_recorded_and_raise(log: AuditLog, tmp_path: Path) -> None:
    """A missing file, a missing folder and a file that only code could read are recorded as failures."""
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "missing.pt")
    with pytest.raises(RuntimeError):
        torch.save(network().state_dict(), tmp_path / "no" / "folder.pt")
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(Exception, match="weights_only"):
        torch.load(tmp_path / "whole.pt", weights_only=True)
    assert [record["event.outcome"] for record in log.of(LOADED)] == ["failure", "success", "failure"]
    assert [record["event.outcome"] for record in log.of(SAVED)] == ["failure", "success"]


def test_what_cannot_be_recorded_is_neither_saved_nor_loaded_under_refuse(
    hooked: Hooked, tmp_path: Path
) -> None:
    """Nothing of the file is read, nothing is written."""
    path = tmp_path / "net.pt"
    torch.save(network().state_dict(), path)
    with hooked("torch", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            torch.load(path)
        with pytest.raises(AuditRefusedError):
            torch.save(network().state_dict(), tmp_path / "other.pt")
        log.heal()
        assert not (tmp_path / "other.pt").exists()


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken PyTorch returns the same results; the faults are recorded."""
    state = network().state_dict()
    with hooked("torch") as log:
        torch.save(state, tmp_path / "net.pt")
        found = torch.load(tmp_path / "net.pt")
        assert isinstance(found, OrderedDict)
        assert all(torch.equal(found[name], part) for name, part in state.items())
        assert any(record.get("audit.failed") for record in log.of(LOADED))
    assert "/mlaudit/capture/" not in torch.save.__code__.co_filename
