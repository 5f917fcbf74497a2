"""The event kinds that a lineage is made of."""

from __future__ import annotations

from typing import Final

DATA_READ: Final = "audit.data.read"
DATA_MODIFIED: Final = "audit.data.modified"
DATA_EXPORTED: Final = "audit.data.exported"
DATA: Final = (DATA_READ, DATA_MODIFIED, DATA_EXPORTED)

TRAINING_STARTED: Final = "audit.ml.training.started"
TRAINING_COMPLETED: Final = "audit.ml.training.completed"
TRAINING_FAILED: Final = "audit.ml.training.failed"
TUNING_STARTED: Final = "audit.ml.tuning.started"
TUNING_TRIAL: Final = "audit.ml.tuning.trial"
TUNING_COMPLETED: Final = "audit.ml.tuning.completed"
RUN_STARTS: Final = (TRAINING_STARTED, TUNING_STARTED)
RUN_ENDS: Final = (TRAINING_COMPLETED, TRAINING_FAILED, TUNING_TRIAL, TUNING_COMPLETED)
RUNS: Final = (*RUN_STARTS, *RUN_ENDS)
EVALUATED: Final = "audit.ml.training.evaluated"

SAVED: Final = "audit.ml.model.saved"
REGISTERED: Final = "audit.ml.model.registered"
RETRAINED: Final = "audit.ml.model.retrained"
DELETED: Final = "audit.ml.model.deleted"
PROMOTED: Final = "audit.ml.model.promoted"
LOADED: Final = "audit.ml.model.loaded"
#: What says that an artifact came into being.
MADE: Final = (SAVED, REGISTERED, RETRAINED)
ARTIFACT: Final = (*MADE, DELETED)

DEPLOYED: Final = "audit.ml.deployment.started"
REPLACED: Final = "audit.ml.deployment.replaced"
UNDEPLOYED: Final = "audit.ml.deployment.ended"
DEPLOYMENTS: Final = (DEPLOYED, REPLACED, UNDEPLOYED)

PREDICTION: Final = "audit.ml.prediction"

#: What names a model by its name and version.
NAMING: Final = (*ARTIFACT, PROMOTED, LOADED, *DEPLOYMENTS, PREDICTION)
