"""What is known of data that a library has converted into a form of its own, and perhaps freed.

Its digest is of what the library was given; nothing can be read back from LightGBM's or XGBoost's own forms.
"""

from __future__ import annotations

import os
from typing import Any, Final

from mlaudit.capture.data.digest import shape
from mlaudit.capture.models import artifact_files
from mlaudit.capture.models.estimator_runs import dataset_fields
from mlaudit.capture.models.prediction import Given
from mlaudit.capture.weak_memory import ByIdentity

_sets: Final[ByIdentity[dict[str, Any]]] = ByIdentity()


def remember(dataset: Any, fields: dict[str, Any]) -> None:
    """Remembers the ``ml.dataset.*`` fields of a library's data object for as long as it lives."""
    _sets.remember(dataset, fields)


def lookup(dataset: Any) -> dict[str, Any] | None:
    """The fields that are remembered, else None."""
    return _sets.get(dataset)


def source_fields(data: Any, target: Any) -> dict[str, Any]:
    """Digests and shape of what a library is given: values in memory, or the path of a file.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(data, str | os.PathLike):
        file = artifact_files.read(data)
        return {"ml.dataset.uri": file.path, "ml.dataset.digest": file.digest, "ml.dataset.bytes": file.size}
    return dataset_fields(data, target)


def given(dataset: Any) -> Given | None:
    """The fields of a prediction on a remembered data object, else None."""
    fields = _sets.get(dataset)
    if fields is None:
        return None
    rows, columns = shape(dataset)
    return Given(
        fields.get("ml.dataset.digest", ""),
        fields.get("ml.dataset.rows", rows),
        fields.get("ml.dataset.columns", columns),
    )
