"""What the parts of the MLflow integration share: the actor, whether MLflow evaluates, the form of a place."""

from __future__ import annotations

import getpass
import json
import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from mlaudit.capture.models.known_models import NOTHING, Known
from mlaudit.capture.request_context import current_actor
from mlaudit.capture.shorten import shortened
from mlaudit.event import USER, Actor

COMPONENT: Final = "capture.libraries.mlflow"
_USER: Final = "mlflow.user"

MLMODEL: Final = "MLmodel"
# Written into a model's folder when it is fetched from a registry: not part of what was logged.
REGISTERED: Final = "registered_model_meta"
IGNORED: Final = frozenset({REGISTERED})
# Whether MLflow itself evaluates a model: the run that it makes for that is no training run.
evaluating: Final[ContextVar[bool]] = ContextVar("mlaudit_mlflow_evaluating", default=False)


@dataclass(slots=True)
class Logging:
    """A model while ``log_model`` writes it: the object, its name, what became of it, and its version if any."""

    model: Any
    name: str
    about: Known = NOTHING
    version: str = ""


# MLflow meanwhile logs the run's metrics again, as those of the model.
logging_model: Final[ContextVar[Logging | None]] = ContextVar("mlaudit_mlflow_logging", default=None)


def place_of(source: Any) -> str:
    """Where data or a model is, from an address or MLflow's JSON description of a source.

    Only its place is taken: no user, no password, no query (signed addresses have their signature there). "" for
    anything else, e.g. the text of an SQL query.
    """
    found = str(source or "")
    if found.startswith("{"):
        try:
            described = json.loads(found)
        except ValueError:
            return ""
        found = str(described.get("uri") or described.get("url") or described.get("path") or "")
    try:
        parts = urlsplit(found)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    if any(character.isspace() for character in found):
        return ""
    return shortened(urlunsplit((parts.scheme, host, parts.path, "", "")), 1000)


def actor(tags: dict[str, str] | None = None) -> Actor | None:
    """Who acts: the actor that the program stated, else the account at the tracking server, else MLflow's user tag.

    None, which is the process itself, if no actor is named or the name is the default of containers.
    """
    stated = current_actor.get()
    if stated is not None:
        return stated
    account = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if account:
        return Actor(account, USER, method="credential")
    user = _process_user() if tags is None else tags.get(_USER, "")
    return Actor(user, USER, method="process") if user not in ("", "root", "unknown") else None


def _process_user() -> str:
    """As MLflow itself finds the value of its user tag."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
