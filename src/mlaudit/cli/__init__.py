"""The ``mlaudit`` command: one file per command or group of commands, each option said once in ``options.py``.

A file here reads arguments, prints, and decides the exit code; what it prints comes from the other packages, which it
imports when the command runs, so that ``mlaudit --help`` loads none of them.
"""

from __future__ import annotations

import platform
import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from mlaudit._version import __version__
from mlaudit.cli import (
    alerts,
    catalog,
    checkpoint,
    detect,
    doctor,
    install,
    keys,
    lineage,
    policy,
    resend,
    spool,
    stack,
    status,
    verify,
)
from mlaudit.cli.command import JsonErrors
from mlaudit.cli.output import COULD_NOT_CHECK, INTERNAL_ERROR, INTERRUPTED
from mlaudit.cli.verbosity import be_verbose, tracebacks_wanted
from mlaudit.errors import MlauditError
from mlaudit.safety.printable import guard_log, safe, safe_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

app = typer.Typer(
    name="mlaudit",
    help="ML audit logging on OpenTelemetry.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(  # noqa: T201 - this is the command line
            f"mlaudit {__version__}, Python {platform.python_version()}, {platform.platform()}"
        )
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            metavar="",
            show_default=False,
            help="Print mlaudit's log on stderr; -vv adds debug messages and tracebacks.",
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            is_eager=True,
            callback=_print_version,
            help="Print version, Python and platform.",
        ),
    ] = False,
) -> None:
    """ML audit logging on OpenTelemetry: who did what to which model, sealed, durable and provable."""
    be_verbose(verbose)


_COMMANDS: tuple[tuple[str, Callable[..., Any] | typer.Typer], ...] = (
    ("stack", stack.stack_app),
    ("catalog", catalog.catalog_command),
    ("install", install.install_command),
    ("policy", policy.policy_app),
    ("detect", detect.detect_command),
    ("alerts", alerts.alerts_command),
    ("verify", verify.verify_command),
    ("keys", keys.keys_app),
    ("checkpoint", checkpoint.checkpoint_app),
    ("resend", resend.resend_command),
    ("lineage", lineage.lineage_command),
    ("spool", spool.spool_app),
    ("status", status.status_command),
    ("doctor", doctor.doctor_command),
)
for _name, _command in _COMMANDS:
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name, cls=JsonErrors)(_command)


def main() -> None:
    """Run the command line.

    An error that mlaudit raises on purpose is a plain message and exit code 2; any other is one line and exit code 70,
    and its traceback only with ``-vv``. Ctrl-C is 130.
    """
    guard_log()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding cannot show is written out; no report fails over a letter.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except MlauditError as error:
        print(f"mlaudit: {safe_lines(str(error))}", file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(COULD_NOT_CHECK)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place where it can be said plainly
        if tracebacks_wanted():
            print(safe_lines(traceback.format_exc()), file=sys.stderr)  # noqa: T201 - this is the command line
        hint = "" if tracebacks_wanted() else "; run again with mlaudit -vv for the traceback"
        text = f"mlaudit: internal error: {type(error).__name__}: {safe(str(error))}{hint}"
        print(text, file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(INTERNAL_ERROR)
