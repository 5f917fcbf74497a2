"""State file of a running stack, so that another process can find and stop it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlaudit.errors import StackError
from mlaudit.stack.process import ProcessId
from mlaudit.stack.stack_layout import write_private

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class State:
    """Addresses and processes of a running stack. Secrets are in the file that ``credentials`` names."""

    elasticsearch_url: str
    otlp_endpoint: str
    health_url: str
    metrics_url: str
    ca_file: str | None
    credentials: str
    logs: str
    namespace: str
    archive: str | None
    elasticsearch: ProcessId
    collector: ProcessId
    otlp_ca_file: str | None = None
    client_certificate: bool = False

    def write(self, path: Path) -> None:
        """Write it, readable by the owner only."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")


def read_state(path: Path) -> State | None:
    """The state in ``path``; None if there is no such file.

    Raises:
        StackError: the file is not a state file.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        found |= {name: ProcessId(**found[name]) for name in ("elasticsearch", "collector")}
        return State(**found)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackError(
            f"{path} does not describe a stack ({error!r}); stop its processes and delete it"
        ) from error
