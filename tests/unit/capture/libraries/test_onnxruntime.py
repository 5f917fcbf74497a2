"""onnxruntime and onnx: models saved, loaded into sessions, and what they predict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.capture.libraries.onnx import OnnxIntegration
from mlaudit.capture.libraries.onnxruntime import OnnxruntimeIntegration
from mlaudit.capture.request_context import RequestTrail, current_request
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

SAVED, LOADED, PREDICTED = "audit.ml.model.saved", "audit.ml.model.loaded", "audit.ml.prediction"
Hooked = Callable[..., AbstractContextManager[AuditLog]]
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
"""
ROWS = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=np.float32)
CPU = ["CPUExecutionProvider"]


@pytest.fixture(scope="module")
def proto() -> Any:
    """A classifier of scikit-learn as ONNX."""
    model = LogisticRegression().fit(ROWS, [0, 1, 1])
    return to_onnx(model, ROWS, target_opset=15)


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with hooked("onnxruntime", "onnx") as log:
        yield log


def test_a_model_that_was_saved_is_loaded_and_predicts(log: AuditLog, proto: Any, tmp_path: Path) -> None:
    """One digest from the file to the prediction, and the run that made it."""
    path = tmp_path / "credit.onnx"
    with mlaudit.training_run("credit") as run:
        onnx.save(proto, path)
    session = ort.InferenceSession(path, providers=CPU)
    labels, _ = session.run(None, {"X": ROWS})
    (saved,), (loaded,), (predicted,) = log.of(SAVED), log.of(LOADED), log.of(PREDICTED)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved["ml.model.digest"] == loaded["ml.model.digest"] == predicted["ml.model.digest"] == expected
    assert saved["ml.training.run_id"] == run.run_id
    assert loaded["ml.model.registration"] == "match"
    assert loaded["ml.model.path"] == str(path)
    assert loaded["ml.model.class"] == "onnxruntime.InferenceSession"
    assert predicted["ml.prediction.method"] == "run"
    assert predicted["ml.model.library"] == "onnxruntime"
    assert (predicted["ml.prediction.rows"], predicted["ml.prediction.features"]) == (3, 2)
    assert predicted["ml.prediction.input.digest"] == digest(ROWS)
    assert predicted["ml.prediction.batch"] is True
    assert len(labels) == 3


def test_a_model_of_bytes_is_compared_with_the_policys_register(hooked: Hooked, proto: Any) -> None:
    """By its digest alone; another one is a mismatch."""
    content = proto.SerializeToString()
    policy = HEAD + "rules: []\nmodels: [{name: '*', digest: 'sha256:" + "0" * 64 + "'}]\n"
    with hooked("onnxruntime", policy=policy) as log:
        ort.InferenceSession(content, providers=CPU)
        (record,) = log.of(LOADED)
        assert record["ml.model.digest"] == hashlib.sha256(content).hexdigest()
        assert record["ml.model.registration"] == "mismatch"


def test_in_a_request_a_prediction_belongs_to_its_record(log: AuditLog, proto: Any) -> None:
    """The trail gets it, and there is no record of its own."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=CPU)
    trail = RequestTrail()
    token = current_request.set(trail)
    try:
        session.run(["output_label"], {"X": ROWS})
    finally:
        current_request.reset(token)
    (use,) = trail.models
    assert (use.method, use.rows, use.digest != "") == ("run", 3, True)
    assert log.of(PREDICTED) == []


def test_other_ways_to_run_are_predictions_too(log: AuditLog, proto: Any) -> None:
    """Values of onnxruntime's own are digested, what is bound to a device is not."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=CPU)
    session.run_with_ort_values(None, {"X": ort.OrtValue.ortvalue_from_numpy(ROWS)})
    binding = session.io_binding()
    binding.bind_cpu_input("X", ROWS)
    binding.bind_output("output_label")
    session.run_with_iobinding(binding)
    one, other = log.of(PREDICTED)
    assert one["ml.prediction.input.digest"] == digest(ROWS)
    assert other["ml.prediction.method"] == "run_with_iobinding"
    assert "ml.prediction.input.digest" not in other


def test_what_fails_is_a_failure(log: AuditLog, proto: Any, tmp_path: Path) -> None:
    """A file that is no model, one that is missing, and an input of the wrong name."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(Exception):  # noqa: B017 - its classes changed between versions
            ort.InferenceSession(str(tmp_path / name), providers=CPU)
    session = ort.InferenceSession(proto.SerializeToString(), providers=CPU)
    with pytest.raises(ValueError, match="X"):
        session.run(None, {"wrong": ROWS})
    assert [one["event.outcome"] for one in log.of(LOADED)] == ["success", "failure", "failure", "success"]
    assert [one["event.outcome"] for one in log.of(PREDICTED)] == ["failure"]


def test_inputs_are_shown_when_the_policy_asks(hooked: Hooked, proto: Any) -> None:
    """Of one input its values."""
    with hooked("onnxruntime", policy=HEAD + "rules: [{name: all, level: inputs}]\n") as log:
        ort.InferenceSession(proto.SerializeToString(), providers=CPU).run(None, {"X": ROWS})
        (record,) = log.of(PREDICTED)
        assert record["ml.prediction.input"] == ROWS.tolist()


def test_a_prediction_is_not_given_out_unrecorded(hooked: Hooked, proto: Any) -> None:
    """When the policy says refuse; nor is a model loaded."""
    policy = HEAD + "rules: [{name: strict, level: metadata, on_failure: refuse}]\n"
    with hooked("onnxruntime", policy=policy) as log:
        session = ort.InferenceSession(proto.SerializeToString(), providers=CPU)
        log.fail(SpoolUnavailableError("broken on purpose"))
        with pytest.raises(AuditRefusedError):
            session.run(None, {"X": ROWS})
        with pytest.raises(AuditRefusedError):
            ort.InferenceSession(proto.SerializeToString(), providers=CPU)


def test_a_broken_hook_never_reaches_the_program(
    hooked: Hooked, broken: str, proto: Any, tmp_path: Path
) -> None:
    """Every call gives what it gave, and the fault is in a record."""
    plain = ort.InferenceSession(proto.SerializeToString(), providers=CPU)
    expected = plain.run(["output_label"], {"X": ROWS})[0].tolist()
    with hooked("onnxruntime", "onnx") as log:
        onnx.save(proto, str(tmp_path / "a.onnx"))
        session = ort.InferenceSession(str(tmp_path / "a.onnx"), providers=CPU)
        assert session.run(["output_label"], {"X": ROWS})[0].tolist() == expected
        for kind in (SAVED, LOADED, PREDICTED):
            assert any(record.get("audit.failed") for record in log.of(kind))


def test_what_was_hooked_is_as_before() -> None:
    """And can be hooked again."""
    before = ort.InferenceSession.__init__, ort.InferenceSession.run, onnx.save, onnx.save_model
    for _ in range(2):
        for one in (OnnxruntimeIntegration(), OnnxIntegration()):
            one.instrument()
            one.instrument()
        assert onnx.save is not before[2]
        for one in (OnnxruntimeIntegration(), OnnxIntegration()):
            one.uninstrument()
        assert (ort.InferenceSession.__init__, ort.InferenceSession.run, onnx.save, onnx.save_model) == before
