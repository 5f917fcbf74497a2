"""An unmodified program, audited by the environment variable alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.spool.files import read_frames

PROGRAM = """
import lightning.pytorch as lightning
import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertModel

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
trainer.fit(Net(), DataLoader(TensorDataset(torch.ones(8, 4))))
small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
BertModel(BertConfig(vocab_size=6, **small)).save_pretrained("bert")
BertModel.from_pretrained("bert")

import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.save("net.keras")
keras.models.load_model("net.keras")
print("done")
"""


def test_a_program_is_audited_by_the_variable_alone(tmp_path: Path) -> None:
    """Hooks are set as each library is imported: the program's events are in the spool, in order."""
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    state = tmp_path / "state"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    audited = {"MLAUDIT_ENABLED": "true", "MLAUDIT_STATE_DIR": str(state), "MLAUDIT_SHUTDOWN_SECONDS": "0"}
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={**inherited, **audited, "MLAUDIT_OTEL": "off", "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs"},
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    assert "done" in done.stdout
    frames = [frame for segment in sorted(state.rglob("*.seg")) for frame in read_frames(segment)[0]]
    records = [json.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]
    found = [record["audit.kind"] for record in records if record["audit.kind"].startswith("audit.ml.")]
    assert found == [
        "audit.ml.training.started",
        "audit.ml.training.completed",
        "audit.ml.model.saved",
        "audit.ml.model.loaded",
        "audit.ml.model.saved",
        "audit.ml.model.loaded",
    ]
    assert not any(record.get("audit.failed") for record in records)
    assert "audit.pipeline.failure" not in {record["audit.kind"] for record in records}
