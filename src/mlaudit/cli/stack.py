"""``mlaudit stack``: the local Elasticsearch and collector."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from mlaudit.cli import options, output
from mlaudit.cli.command import JsonErrors

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from mlaudit.stack.process import ProcessId
    from mlaudit.stack.state import State

stack_app = typer.Typer(help="Local Elasticsearch and collector, without Docker.", no_args_is_help=True)

_OtlpTls = Literal["off", "server", "mutual"]
_Topology = Literal["queued", "direct"]


@stack_app.command("up", cls=JsonErrors)
def stack_up(
    directory: options.StackDirectory = Path(".mlaudit-stack"),
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Return when it is ready, or stay until Ctrl-C.")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run stored.")] = False,
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="HTTPS for Elasticsearch.")] = True,
    otlp_tls: Annotated[
        _OtlpTls, typer.Option(help="The collector speaks HTTPS; mutual: it asks senders for a certificate.")
    ] = "off",
    topology: Annotated[
        _Topology, typer.Option(help="Acknowledged when on the collector's disk, or when stored.")
    ] = "queued",
    archive: Annotated[
        Path | None, typer.Option("--archive", help="File that gets every audit record as well.")
    ] = None,
    host: Annotated[
        bool, typer.Option("--host", help="Also record what happens to this host (system.yaml).")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Start Elasticsearch and the collector; fetches and builds them on the first run."""
    from mlaudit.stack.control import StackOptions, running_stack, start_stack

    console = output.progress() if as_json else output.console()
    running = running_stack(directory)
    if running:
        if not as_json:
            console.print("already running")
        _show_running(console, running, as_json=as_json)
        return
    asked = StackOptions(
        fresh=fresh,
        tls=tls,
        otlp_tls=otlp_tls,
        topology=topology,
        archive=archive,
        host=host,
        tied=not detach,
    )
    stack = start_stack(directory, asked, _reporter(console))
    started = running_stack(directory)
    if started is not None:
        _show_running(console, started, as_json=as_json)
    if not detach:
        _until_interrupted()
        console.print("stopping")
        stack.stop()


@stack_app.command("down", cls=JsonErrors)
def stack_down(
    directory: options.StackDirectory = Path(".mlaudit-stack"), as_json: options.Json = False
) -> None:
    """Stop both; the data stays."""
    from mlaudit.stack.local_stack import stop_running
    from mlaudit.stack.stack_layout import layout_of

    console = output.progress() if as_json else output.console()
    stopped = stop_running(directory, _reporter(console))
    if as_json:
        output.write_json(
            {"ok": True, "stopped": bool(stopped), "directory": str(layout_of(directory).directory)}
        )
    else:
        console.print("stopped" if stopped else f"nothing runs in {layout_of(directory).directory}")


@stack_app.command("status", cls=JsonErrors)
def stack_status(
    directory: options.StackDirectory = Path(".mlaudit-stack"), as_json: options.Json = False
) -> None:
    """Show what runs and where; exit code 1 if anything of it does not."""
    from mlaudit.stack.control import health_of
    from mlaudit.stack.stack_layout import layout_of
    from mlaudit.stack.state import read_state

    state = read_state(layout_of(directory).state)
    if state is None:
        if as_json:
            output.write_json({"running": False})
        else:
            output.console().print("not running")
        raise typer.Exit(output.FINDINGS)
    health = health_of(state)
    healthy = all(health.values())
    if as_json:
        output.write_json({"running": healthy, "healthy": health, **asdict(state)})
    else:
        show(output.console(), state, health)
    raise typer.Exit(output.FINE if healthy else output.FINDINGS)


@stack_app.command("env", cls=JsonErrors)
def stack_env(
    directory: options.StackDirectory = Path(".mlaudit-stack"), as_json: options.Json = False
) -> None:
    """Print the variables that point services and mlaudit's commands to the running stack: eval "$(…)"."""
    from mlaudit.stack.control import environment

    variables = environment(directory)
    if as_json:
        output.write_json(variables)
    else:
        output.write("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))


def _show_running(console: Console, state: State, *, as_json: bool) -> None:
    if as_json:
        output.write_json({"running": True, **asdict(state)})
    else:
        show(console, state)


def show(console: Console, state: State, health: dict[str, bool] | None = None) -> None:
    """Print where the parts of a stack are, and with ``health`` how."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
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
    output.print_table(console, table)


def _reporter(console: Console) -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {line}")


def _until_interrupted() -> None:
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    interrupted.wait()
