"""Libraries on top of each other: what one does for another is recorded once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import lightning.pytorch as lightning
import torch
import transformers
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader, TensorDataset

import mlaudit
from mlaudit.testing import AuditLog

STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
ALL = ("torch", "lightning", "pytorch-lightning", "transformers", "keras", "sklearn", "joblib", "pickle")

Hooked = Callable[..., AbstractContextManager[AuditLog]]


class Net(lightning.LightningModule):
    """Measures itself with scikit-learn while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, _: int) -> Any:
        out = self.layer(batch[0])
        self.log("accuracy", accuracy_score(batch[1].numpy() > 0, out.detach().numpy() > 0))
        return torch.nn.functional.mse_loss(out, batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_every_action_is_one_record_with_all_hooks_set(hooked: Hooked, tmp_path: Path) -> None:
    """Lightning saves and loads with PyTorch, Keras and transformers with files of their own: one record for each."""
    config = transformers.BertConfig(
        vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    loader = DataLoader(TensorDataset(torch.ones(8, 4), torch.ones(8, 1)), batch_size=4)
    with hooked(*ALL) as log, mlaudit.training_run("net") as run:
        trainer = lightning.Trainer(
            max_epochs=1,
            logger=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Net(), loader)
        Net.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
        torch.save(Net().state_dict(), tmp_path / "net.pt")
        torch.load(tmp_path / "net.pt")
        transformers.BertModel(config).save_pretrained(tmp_path / "bert")
        transformers.BertModel.from_pretrained(tmp_path / "bert")
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.save(tmp_path / "net.keras")
        keras.models.load_model(tmp_path / "net.keras")
    assert log.kinds() == [
        STARTED,
        *(STARTED, SAVED, COMPLETED, LOADED),
        *([SAVED, LOADED] * 3),
        COMPLETED,
    ]
    inner, outer = log.of(COMPLETED)
    assert inner["ml.training.parent_run_id"] == outer["ml.training.run_id"] == run.run_id
    assert inner["ml.training.metrics"]["accuracy"] >= 0
    assert log.of(SAVED)[0]["ml.training.run_id"] == inner["ml.training.run_id"]
    assert {record["ml.model.registration"] for record in log.of(LOADED)} == {"match"}
