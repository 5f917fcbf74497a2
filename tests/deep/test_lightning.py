"""Lightning's Trainer under audit, by both of its names."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mlaudit.capture.data.digest import digest
from mlaudit.capture.request_context import current_run
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""
PACKAGES = {"lightning": "lightning.pytorch", "pytorch-lightning": "pytorch_lightning"}
torch.manual_seed(0)
X = torch.randn(40, 4)
Y = (X.sum(1, keepdim=True) > 0).float()

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silences Lightning's output."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make(package: Any) -> Any:
    """A small module of this package."""

    class Net(package.LightningModule):  # type: ignore[misc,name-defined]
        """Logs a loss in each phase; fails on demand."""

        def __init__(self, lr: float = 0.1, broken: bool = False) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

        def _loss(self, batch: Any, name: str) -> torch.Tensor:
            if self.hparams.broken:
                raise ValueError("no such batch")
            loss = torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])
            self.log(name, loss, on_epoch=True, on_step=False)
            return loss

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self._loss(batch, "train_loss")

        def validation_step(self, batch: Any, _: int) -> None:
            self._loss(batch, "val_loss")

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self._loss(batch, "test_loss")

        def predict_step(self, batch: Any, _: int) -> torch.Tensor:
            return self(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    return Net


def trainer(package: Any, folder: Path, **more: Any) -> Any:
    """Two epochs on the processor."""
    settings = {"max_epochs": 2, "logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return package.Trainer(
        default_root_dir=folder,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **settings, **more},
    )


def loader() -> DataLoader[Any]:
    """All of the data, in batches."""
    return DataLoader(TensorDataset(X, Y), batch_size=10)


@pytest.mark.parametrize("name", PACKAGES)
def test_each_task_of_a_trainer_is_one_record(hooked: Hooked, tmp_path: Path, name: str) -> None:
    """A fit is a run with parameters, data, metrics; validate and test are evaluations of it, predict a prediction."""
    package = importlib.import_module(PACKAGES[name])
    with hooked(name, "torch") as log:
        model, task = make(package)(lr=0.2), trainer(package, tmp_path)
        task.fit(model, loader(), loader())
        (validated,) = task.validate(model, loader(), verbose=False)
        (tested,) = task.test(model, loader(), verbose=False)
        predicted = task.predict(model, loader())
    assert log.kinds() == [STARTED, COMPLETED, EVALUATED, EVALUATED, PREDICTION]
    (started,), (completed,) = log.of(STARTED), log.of(COMPLETED)
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["ml.training.method"] == "fit"
    assert started["ml.training.parameters"]["lr"] == "0.2"
    assert started["ml.training.parameters"]["max_epochs"] == "2"
    assert started["ml.dataset.digest"] == digest(X)
    assert started["ml.dataset.target.digest"] == digest(Y)
    assert (started["ml.dataset.rows"], started["ml.dataset.columns"]) == (40, 4)
    assert completed["ml.training.metrics"]["epochs"] == 2
    assert completed["ml.training.metrics"]["train_loss"] > 0
    assert completed["ml.training.metrics"]["val_loss"] > 0
    assert "Net" in completed["ml.model.class"]
    one, two = log.of(EVALUATED)
    assert (one["ml.training.method"], two["ml.training.method"]) == ("validate", "test")
    assert one["ml.training.metrics"]["val_loss"] == pytest.approx(validated["val_loss"])
    assert two["ml.training.metrics"]["test_loss"] == pytest.approx(tested["test_loss"])
    assert one["ml.training.run_id"] == completed["ml.training.run_id"]
    (prediction,) = log.of(PREDICTION)
    assert prediction["ml.prediction.rows"] == 40
    assert prediction["ml.prediction.input.digest"] == digest(X)
    assert prediction["ml.prediction.output.digest"] == digest(predicted) != ""


@pytest.mark.parametrize("name", PACKAGES)
def test_checkpoints_are_files_of_the_run(hooked: Hooked, tmp_path: Path, name: str) -> None:
    """Each checkpoint is recorded once, with its run; a module loaded from it is recorded once and identified."""
    package = importlib.import_module(PACKAGES[name])
    with hooked(name, "torch") as log:
        cls = make(package)
        task = trainer(package, tmp_path, enable_checkpointing=True, max_epochs=1)
        task.fit(cls(), loader())
        path = Path(task.checkpoint_callback.best_model_path)
        again = cls.load_from_checkpoint(path)
        task.save_checkpoint(tmp_path / "later.ckpt")
        trainer(package, tmp_path).predict(again, loader())
    assert log.kinds() == [STARTED, SAVED, COMPLETED, LOADED, SAVED, PREDICTION]
    saved, later = log.of(SAVED)
    (loaded,) = log.of(LOADED)
    run = log.of(COMPLETED)[0]["ml.training.run_id"]
    assert saved["ml.training.run_id"] == later["ml.training.run_id"] == run
    assert saved["ml.model.digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved["ml.model.name"] == "Net"
    assert saved["labels"]["content"] == "checkpoint"
    assert loaded["ml.model.digest"] == saved["ml.model.digest"]
    assert loaded["ml.model.registration"] == "match"
    assert log.of(PREDICTION)[0]["ml.model.digest"] == saved["ml.model.digest"]


def test_a_fit_that_fails_is_recorded_and_raises(hooked: Hooked, tmp_path: Path) -> None:
    """The module's own error is raised, and the run is closed."""
    package = importlib.import_module("lightning.pytorch")
    with hooked("lightning") as log:
        with pytest.raises(ValueError, match="no such batch"):
            trainer(package, tmp_path).fit(make(package)(broken=True), loader())
        assert log.kinds() == [STARTED, FAILED]
        assert log.of(FAILED)[0]["error.type"] == "ValueError"
        assert current_run.get() is None


def test_a_fit_that_is_interrupted_says_so(hooked: Hooked, tmp_path: Path) -> None:
    """Lightning catches Ctrl-C itself, and returns or exits: either is recorded."""
    package = importlib.import_module("lightning.pytorch")

    class Interrupt(package.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, *_: Any) -> None:
            raise KeyboardInterrupt

    with hooked("lightning") as log:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            trainer(package, tmp_path, callbacks=[Interrupt()]).fit(make(package)(), loader())
        (started,), (ended,) = log.of(STARTED), log.of(COMPLETED) or log.of(FAILED)
        assert ended["ml.training.run_id"] == started["ml.training.run_id"]
        assert ended.get("event.reason") == "interrupted" or ended["error.type"] in (
            "SystemExit",
            "KeyboardInterrupt",
        )
        assert current_run.get() is None


def test_a_fit_that_cannot_be_recorded_does_not_start_under_refuse(hooked: Hooked, tmp_path: Path) -> None:
    """Nothing was trained."""
    package = importlib.import_module("lightning.pytorch")
    with hooked("lightning", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("full"))
        task = trainer(package, tmp_path)
        with pytest.raises(AuditRefusedError):
            task.fit(make(package)(), loader())
        log.heal()
        assert task.global_step == 0


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken Lightning trains, validates, saves and loads as before; the faults are recorded."""
    package = importlib.import_module("lightning.pytorch")
    with hooked("lightning", "torch") as log:
        cls, task = make(package), trainer(package, tmp_path)
        task.fit(cls(), loader())
        assert task.validate(task.lightning_module, loader(), verbose=False)[0]["val_loss"] > 0
        task.save_checkpoint(tmp_path / "m.ckpt")
        assert cls.load_from_checkpoint(tmp_path / "m.ckpt").hparams.lr == 0.1
        assert any(record.get("audit.failed") for record in log.of(STARTED))
    assert "/mlaudit/capture/" not in package.Trainer.fit.__code__.co_filename
