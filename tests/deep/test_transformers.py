"""transformers under audit: Trainer, pipelines, folders of models; every model is made from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    TextClassificationPipeline,
    Trainer,
    TrainingArguments,
)

from mlaudit.capture.data.digest import digest
from mlaudit.capture.models import artifact_files
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
POLICY = """
version: 1
revisions: [{{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}}]
rules:
  - {{name: all, level: {level}, on_failure: {failure}}}
"""
WORDS = ["[PAD]", "[UNK]", "good", "bad", "film", "very"]
TEXTS = ["good film", "very bad film", "very good", "bad"] * 4

Hooked = Callable[..., AbstractContextManager[AuditLog]]


class Reviews(Dataset[dict[str, Any]]):
    """Sixteen reviews of two words."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, place: int) -> dict[str, Any]:
        if self.broken:
            raise ValueError("no such review")
        found = tokenizer()(TEXTS[place], padding="max_length", max_length=3)
        return {"input_ids": found["input_ids"], "labels": int("good" in TEXTS[place])}


def tokenizer() -> PreTrainedTokenizerFast:
    """One that knows six words."""
    made = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def network() -> BertForSequenceClassification:
    """A very small one."""
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=8,
        )
    )


def trainer(folder: Path, **more: Any) -> Trainer:
    """One epoch on the processor."""
    settings: dict[str, Any] = {"num_train_epochs": 1, "save_strategy": "no", "learning_rate": 0.01}
    dataset = more.pop("dataset", Reviews())
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **{**settings, **more},
    )
    return Trainer(network(), arguments, train_dataset=dataset, eval_dataset=Reviews())


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of transformers and PyTorch."""
    with hooked("transformers", "torch") as found:
        yield found


def test_training_evaluation_and_prediction_are_one_record_each(log: AuditLog, tmp_path: Path) -> None:
    """A run with its settings and what it logged, evaluations inside among it; an evaluation; a prediction."""
    named = TrainingArguments.__dataclass_fields__
    strategy = "eval_strategy" if "eval_strategy" in named else "evaluation_strategy"
    task = trainer(tmp_path, **{strategy: "epoch"})
    task.train()
    measured = task.evaluate()
    predicted = task.predict(Reviews())
    assert log.kinds() == [STARTED, COMPLETED, EVALUATED, PREDICTION]
    (started,), (completed,) = log.of(STARTED), log.of(COMPLETED)
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["ml.model.class"] == "transformers.models.bert.modeling_bert.BertForSequenceClassification"
    assert started["ml.training.parameters"]["learning_rate"] == "0.01"
    assert (started["ml.dataset.rows"], started["ml.dataset.name"]) == (16, "Reviews")
    metrics = completed["ml.training.metrics"]
    assert {"train_loss", "eval_loss", "epoch", "steps"} <= set(metrics)
    (evaluated,) = log.of(EVALUATED)
    assert evaluated["ml.training.run_id"] == completed["ml.training.run_id"]
    assert evaluated["ml.training.metrics"]["eval_loss"] == pytest.approx(measured["eval_loss"])
    (prediction,) = log.of(PREDICTION)
    assert prediction["ml.prediction.rows"] == 16
    assert predicted.predictions.shape == (16, 2)


def test_a_folder_links_the_run_that_made_it_with_the_predictions_from_it(
    log: AuditLog, tmp_path: Path
) -> None:
    """Checkpoints belong to the run; a model loaded from a folder is identified by the folder's digest."""
    task = trainer(tmp_path, save_strategy="epoch")
    task.train()
    folder = tmp_path / "sentiment"
    task.model.save_pretrained(folder)
    again = BertForSequenceClassification.from_pretrained(folder)
    TextClassificationPipeline(model=again, tokenizer=tokenizer())("good film")
    assert log.kinds() == [STARTED, SAVED, COMPLETED, SAVED, LOADED, PREDICTION]
    checkpoint, saved = log.of(SAVED)
    run = log.of(COMPLETED)[0]["ml.training.run_id"]
    assert checkpoint["ml.training.run_id"] == saved["ml.training.run_id"] == run
    assert checkpoint["ml.model.name"] == "BertForSequenceClassification"
    (loaded,) = log.of(LOADED)
    assert saved["ml.model.digest"] == loaded["ml.model.digest"] == artifact_files.read(folder).digest
    assert loaded["ml.model.registration"] == "match"
    assert log.of(PREDICTION)[0]["ml.model.digest"] == loaded["ml.model.digest"]


def test_a_pipeline_is_a_prediction_without_its_texts(hooked: Hooked) -> None:
    """The task is the method, a list is as many rows; texts are in the record from level inputs on only."""
    with hooked("transformers") as log:
        pipe = transformers.pipeline("text-classification", model=network(), tokenizer=tokenizer())
        one = pipe("good film")
        pipe(["good film", "very bad film"])
    first, second = log.of(PREDICTION)
    assert first["ml.prediction.method"] == "text-classification"
    assert (first["ml.prediction.rows"], second["ml.prediction.rows"]) == (1, 2)
    assert first["ml.prediction.input.digest"] == digest(["good film"])
    assert second["ml.prediction.input.digest"] == digest(["good film", "very bad film"])
    assert first["ml.prediction.output.digest"] == digest(one[0]) != ""
    assert b"film" not in b"".join(log.originals)
    with hooked("transformers", policy=POLICY.format(level="full", failure="continue")) as log:
        pipe("good film")
    (shown,) = log.of(PREDICTION)
    assert shown["ml.prediction.input"] == "good film"
    assert shown["ml.prediction.output"]["label"].startswith("LABEL_")


def test_a_name_of_the_hub_is_told_with_its_commit(
    hooked: Hooked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model from the Hub's cache has the commit as its version; an unknown name is recorded as a failure."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--acme--sentiment"
    network().save_pretrained(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with hooked("transformers") as log:
        BertForSequenceClassification.from_pretrained("acme/sentiment", cache_dir=tmp_path)
        with pytest.raises(OSError):
            BertForSequenceClassification.from_pretrained("acme/nothing", cache_dir=tmp_path)
    good, bad = log.of(LOADED)
    assert good["audit.target.id"] == f"acme/sentiment@{commit}"
    assert good["ml.model.version"] == commit
    assert good["labels"]["source"] == "hub"
    assert (bad["event.outcome"], bad["ml.model.path"]) == ("failure", "acme/nothing")


def test_a_training_that_fails_is_recorded_and_raises(log: AuditLog, tmp_path: Path) -> None:
    """The data set's own error is raised."""
    with pytest.raises(ValueError, match="no such review"):
        trainer(tmp_path, dataset=Reviews(broken=True)).train()
    assert log.kinds() == [STARTED, FAILED]


def test_what_cannot_be_recorded_does_not_happen_under_refuse(hooked: Hooked, tmp_path: Path) -> None:
    """Nothing is trained, saved, loaded or predicted."""
    network().save_pretrained(tmp_path / "there")
    with hooked("transformers", policy=POLICY.format(level="metadata", failure="refuse")) as log:
        pipe = TextClassificationPipeline(model=network(), tokenizer=tokenizer())
        log.fail(SpoolUnavailableError("full"))
        for call in (
            trainer(tmp_path).train,
            lambda: network().save_pretrained(tmp_path / "other"),
            lambda: BertForSequenceClassification.from_pretrained(tmp_path / "there"),
            lambda: pipe("good"),
        ):
            with pytest.raises(AuditRefusedError):
                call()
        log.heal()
        assert not (tmp_path / "other").exists()


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken transformers returns the same results; the faults are recorded."""
    expected = trainer(tmp_path)
    expected.train()
    with hooked("transformers") as log:
        task = trainer(tmp_path)
        task.train()
        assert task.evaluate()["eval_loss"] == pytest.approx(expected.evaluate()["eval_loss"])
        task.model.save_pretrained(tmp_path / "m")
        BertForSequenceClassification.from_pretrained(tmp_path / "m")
        assert TextClassificationPipeline(model=task.model, tokenizer=tokenizer())("good")
        assert any(record.get("audit.failed") for record in log.of(STARTED))
    assert "/mlaudit/capture/" not in transformers.Trainer.train.__code__.co_filename
