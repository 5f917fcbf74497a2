"""What ``mlaudit stack up``, ``down`` and ``status`` do and print."""

from __future__ import annotations

import json
import shlex
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import urllib3
from rich.console import Console
from rich.table import Table

from mlaudit.errors import StackError
from mlaudit.stack.collector_process import this_host
from mlaudit.stack.credentials import ADMIN, READER
from mlaudit.stack.elasticsearch_node import request
from mlaudit.stack.local_stack import Stack, stop_running
from mlaudit.stack.stack_layout import layout_of, write_private
from mlaudit.stack.state import State, read_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.stack.collector_process import Tls
    from mlaudit.stack.process import ProcessId


def up(
    directory: Path,
    *,
    detach: bool,
    fresh: bool,
    tls: bool,
    archive: Path | None,
    otlp_tls: Tls = "off",
    topology: Literal["queued", "direct"] = "queued",
    host: bool = False,
) -> None:
    """Start the stack, or say that it runs already; in the foreground, stay until interrupted.

    Raises:
        StackError: it could not be started.
    """
    console = Console(highlight=False, soft_wrap=True)
    running = read_state(layout_of(directory).state)
    if running and running.elasticsearch.alive() and running.collector.alive():
        console.print("already running")
        _show(console, running)
        return
    if running:
        # Half of it died: what is left holds ports and locks.
        stop_running(directory)
    stack = Stack(
        directory,
        tls=tls,
        otlp_tls=otlp_tls,
        topology=topology,
        fresh=fresh,
        archive=archive,
        system=this_host() if host else None,
        tied=not detach,
        report=_reporter(console),
    )
    stack.start()
    started = read_state(stack.layout.state)
    if started is not None:
        _show(console, started)
    if not detach:
        _until_interrupted()
        console.print("stopping")
        stack.stop()


def down(directory: Path) -> None:
    """Stop the stack, if it runs."""
    console = Console(highlight=False, soft_wrap=True)
    stopped = stop_running(directory, _reporter(console))
    console.print("stopped" if stopped else f"nothing runs in {layout_of(directory).directory}")


def status(directory: Path, *, as_json: bool) -> int:
    """Print what runs; 0 if everything is healthy, 1 if not."""
    console = Console(highlight=False, soft_wrap=True)
    state = read_state(layout_of(directory).state)
    if state is None:
        console.print('{"running": false}' if as_json else "not running")
        return 1
    health = {
        "elasticsearch": state.elasticsearch.alive() and _elasticsearch_healthy(state),
        "collector": state.collector.alive() and _answers(state.health_url),
    }
    if as_json:
        answer: dict[str, Any] = {"running": all(health.values()), "healthy": health, **asdict(state)}
        console.print_json(json.dumps(answer))
    else:
        _show(console, state, health)
    return 0 if all(health.values()) else 1


def env(directory: Path) -> None:
    """Print shell assignments for services and for mlaudit's own commands; secrets as files only.

    Raises:
        StackError: nothing runs there.
    """
    layout = layout_of(directory)
    state = read_state(layout.state)
    if state is None or not state.collector.alive():
        raise StackError(f"nothing runs in {layout.directory}; start it: mlaudit stack up --dir {directory}")
    password = layout.directory / "reader-password"
    write_private(password, json.loads(Path(state.credentials).read_text())["reader"] + "\n")
    variables = {
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
    for name, value in variables.items():
        if value:
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - made to be evaluated by a shell


def _show(console: Console, state: State, health: dict[str, bool] | None = None) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    rows: list[tuple[str, str, ProcessId | None]] = [
        ("Elasticsearch", state.elasticsearch_url, state.elasticsearch),
        ("OTLP/HTTP", state.otlp_endpoint, state.collector),
        ("collector metrics", state.metrics_url, None),
        ("CA certificate", state.ca_file or "none (no TLS)", None),
        ("credentials", state.credentials, None),
        ("logs", state.logs, None),
    ]
    for label, value, process in rows:
        condition = f"pid {process.pid}" if process else ""
        if health is not None and process is not None:
            name = "elasticsearch" if process is state.elasticsearch else "collector"
            condition += ", healthy" if health[name] else ", NOT healthy"
        table.add_row(label, value, condition)
    console.print(table)


def _elasticsearch_healthy(state: State) -> bool:
    credentials = json.loads(Path(state.credentials).read_text())
    ca_file = Path(state.ca_file) if state.ca_file else None
    return _answers(f"{state.elasticsearch_url}/_cluster/health", (ADMIN, credentials["admin"]), ca_file)


def _answers(url: str, auth: tuple[str, str] | None = None, ca_file: Path | None = None) -> bool:
    try:
        return request("GET", url, auth=auth, ca_file=ca_file)[0] == 200
    except urllib3.exceptions.HTTPError:
        return False


def _reporter(console: Console) -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {line}")


def _until_interrupted() -> None:
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    interrupted.wait()
