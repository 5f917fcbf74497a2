"""Starts, stops and looks at the stack of a folder, for who does not hold it in a ``Stack`` of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from mlaudit.errors import StackError
from mlaudit.stack.collector_process import this_host
from mlaudit.stack.credentials import ADMIN, READER
from mlaudit.stack.elasticsearch_node import request
from mlaudit.stack.local_stack import Stack, stop_running
from mlaudit.stack.stack_layout import layout_of, write_private
from mlaudit.stack.state import State, read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from mlaudit.stack.collector_process import Tls


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How a stack is started.

    Attributes:
        fresh: forget what an earlier run stored.
        tls: HTTPS for Elasticsearch.
        otlp_tls: HTTPS for the collector, and whether it asks senders for a certificate.
        topology: acknowledged when on the collector's disk, or when stored.
        archive: file that gets every audit record as well.
        host: also record what happens to this host.
        tied: ends with this process.
    """

    fresh: bool = False
    tls: bool = True
    otlp_tls: Tls = "off"
    topology: Literal["queued", "direct"] = "queued"
    archive: Path | None = None
    host: bool = False
    tied: bool = False


def running_stack(directory: Path) -> State | None:
    """The stack of a folder if both of its processes live."""
    state = read_state(layout_of(directory).state)
    return state if state and state.elasticsearch.alive() and state.collector.alive() else None


def start_stack(directory: Path, options: StackOptions, report: Callable[[str], None]) -> Stack:
    """Starts a stack; what is left of one that half died is stopped before.

    Raises:
        StackError: it could not be started.
    """
    if read_state(layout_of(directory).state):
        # Half of it died: what is left holds ports and locks.
        stop_running(directory)
    stack = Stack(
        directory,
        tls=options.tls,
        otlp_tls=options.otlp_tls,
        topology=options.topology,
        fresh=options.fresh,
        archive=options.archive,
        system=this_host() if options.host else None,
        tied=options.tied,
        report=report,
    )
    stack.start()
    return stack


def health_of(state: State) -> dict[str, bool]:
    """Which of the two processes answers as it should."""
    return {
        "elasticsearch": state.elasticsearch.alive() and _elasticsearch_healthy(state),
        "collector": state.collector.alive() and _answers(state.health_url),
    }


def environment(directory: Path) -> dict[str, str]:
    """The variables that point services and mlaudit's own commands to the running stack; secrets as files only.

    Raises:
        StackError: nothing runs there.
    """
    layout = layout_of(directory)
    state = read_state(layout.state)
    if state is None or not state.collector.alive():
        raise StackError(f"nothing runs in {layout.directory}; start it: mlaudit stack up --dir {directory}")
    password = layout.directory / "reader-password"
    write_private(password, json.loads(Path(state.credentials).read_text())["reader"] + "\n")
    variables: dict[str, str] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": state.otlp_endpoint,
        "MLAUDIT_TOKEN_FILE": str(layout.directory / "token"),
        "MLAUDIT_CA_FILE": state.otlp_ca_file or "",
        "MLAUDIT_CLIENT_CERT_FILE": str(layout.client_certificate[0]) if state.client_certificate else "",
        "MLAUDIT_CLIENT_KEY_FILE": str(layout.client_certificate[1]) if state.client_certificate else "",
        "MLAUDIT_COLLECTOR_METRICS_URL": state.metrics_url,
        "MLAUDIT_ES_URL": state.elasticsearch_url,
        "MLAUDIT_ES_CA_FILE": state.ca_file or "",
        "MLAUDIT_ES_USERNAME": READER,
        "MLAUDIT_ES_PASSWORD_FILE": str(password),
    }
    return {name: value for name, value in variables.items() if value}


def _elasticsearch_healthy(state: State) -> bool:
    credentials = json.loads(Path(state.credentials).read_text())
    ca_file = Path(state.ca_file) if state.ca_file else None
    return _answers(f"{state.elasticsearch_url}/_cluster/health", (ADMIN, credentials["admin"]), ca_file)


def _answers(url: str, auth: tuple[str, str] | None = None, ca_file: Path | None = None) -> bool:
    try:
        return request("GET", url, auth=auth, ca_file=ca_file)[0] == 200
    except urllib3.exceptions.HTTPError:
        return False
