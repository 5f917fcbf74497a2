"""The ``mlaudit`` command.

Options are declared here, work is done elsewhere: each sub-command imports its implementation when it runs, so that
``mlaudit --help`` stays fast.
"""

from __future__ import annotations

import sys

import typer

from mlaudit.cli import assets, detect, health, lineage, policy, spool, stack, trail
from mlaudit.errors import MlauditError
from mlaudit.safety.printable import guard_log, safe_lines

app = typer.Typer(
    name="mlaudit",
    help="ML audit logging on OpenTelemetry.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """ML audit logging on OpenTelemetry: who did what to which model, sealed, durable and provable."""


app.add_typer(stack.stack_app, name="stack")
app.command("catalog")(assets.catalog_command)
app.command("install")(assets.install_command)
app.add_typer(policy.policy_app, name="policy")
app.command("detect")(detect.detect)
app.command("alerts")(detect.alerts)
app.command("verify")(trail.verify_command)
app.add_typer(trail.keys_app, name="keys")
app.add_typer(trail.checkpoint_app, name="checkpoint")
app.command("resend")(trail.resend_command)
app.command("lineage")(lineage.lineage_command)
app.add_typer(spool.spool_app, name="spool")
app.command("status")(health.status_command)
app.command("doctor")(health.doctor_command)


def main() -> None:
    """Run the command line; an error that mlaudit raises on purpose is a plain message and exit code 2."""
    guard_log()
    try:
        app()
    except MlauditError as error:
        print(f"mlaudit: {safe_lines(str(error))}", file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(2)
