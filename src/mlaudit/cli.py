"""The ``mlaudit`` command. Each sub-command imports its implementation when it runs, not before."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlaudit.errors import MlauditError

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


def main() -> None:
    """Run the command line; an error that mlaudit raises on purpose is a plain message and exit code 2."""
    try:
        app()
    except MlauditError as error:
        print(f"mlaudit: {error}", file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(2)


# -- stack -------------------------------------------------------------------------------------------------

stack_app = typer.Typer(help="Local Elasticsearch and collector, without Docker.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")

_StackDirectory = Annotated[
    Path, typer.Option("--dir", help="Folder for state, credentials, logs and data.", metavar="DIR")
]


@stack_app.command("up")
def stack_up(
    directory: _StackDirectory = Path(".mlaudit-stack"),
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Return when it is ready, or stay until Ctrl-C.")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run stored.")] = False,
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="HTTPS for Elasticsearch.")] = True,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="File that gets every audit record as well.")
    ] = None,
) -> None:
    """Start Elasticsearch and the collector; fetches and builds them on the first run."""
    from mlaudit.stack import commands

    commands.up(directory, detach=detach, fresh=fresh, tls=tls, archive=archive)


@stack_app.command("down")
def stack_down(directory: _StackDirectory = Path(".mlaudit-stack")) -> None:
    """Stop both; the data stays."""
    from mlaudit.stack import commands

    commands.down(directory)


@stack_app.command("status")
def stack_status(
    directory: _StackDirectory = Path(".mlaudit-stack"),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show what runs and where; exit code 1 if anything of it does not."""
    from mlaudit.stack import commands

    raise typer.Exit(commands.status(directory, as_json=as_json))


@stack_app.command("env")
def stack_env(directory: _StackDirectory = Path(".mlaudit-stack")) -> None:
    """Print the variables that point services and mlaudit's commands to the running stack: eval "$(…)"."""
    from mlaudit.stack import commands

    commands.env(directory)


# -- catalog, generate, install ----------------------------------------------------------------------------


@app.command("catalog")
def catalog_command(
    kind: Annotated[str, typer.Argument(help="A kind of event; all of them when left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List the kinds of event, or show one with its fields and a sample."""
    from mlaudit.catalog import commands

    commands.show(kind, as_json=as_json)


@app.command("generate")
def generate_command(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if anything differs.")
    ] = False,
) -> None:
    """Regenerate everything that is made from the catalog; for developers, in a checkout."""
    from mlaudit.assets import commands

    raise typer.Exit(commands.generate(check=check))


class _Profile(StrEnum):
    AUTO = "auto"
    FULL = "full"
    REDUCED = "reduced"


@app.command("install")
def install_command(
    elasticsearch: Annotated[
        str, typer.Option("--elasticsearch", help="Address of the cluster.", metavar="URL")
    ],
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            help="CA that signed the cluster's certificate.",
            metavar="FILE",
            envvar="MLAUDIT_ES_CA_FILE",
        ),
    ] = None,
    profile: Annotated[
        _Profile, typer.Option("--profile", help="What the cluster can carry; auto asks it.")
    ] = _Profile.AUTO,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
) -> None:
    """Install templates, lifecycle policies and roles into Elasticsearch; running it again changes nothing.

    Credentials come from MLAUDIT_ES_USERNAME and MLAUDIT_ES_PASSWORD, or MLAUDIT_ES_API_KEY; each may be given
    as a file by the variable with _FILE behind its name.
    """
    from mlaudit.install import commands

    commands.run(elasticsearch, ca_file, profile.value, dry_run=dry_run)


# -- policy ------------------------------------------------------------------------------------------------

policy_app = typer.Typer(help="Check a policy file, and ask it what it would decide.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="The policy file.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List every fault of a policy file; exit code 0 if it can be used, 1 if not, 2 if it cannot be read."""
    from mlaudit.policy import commands

    raise typer.Exit(commands.check(file, as_json=as_json))


@policy_app.command("explain")
def policy_explain(
    kind: Annotated[str, typer.Option("--kind", help="Kind of the event, e.g. audit.ml.prediction.")],
    service: Annotated[str, typer.Option("--service", help="Name of the service.")] = "",
    route: Annotated[str, typer.Option("--route", help="Route of the request, e.g. /predict.")] = "",
    model: Annotated[str, typer.Option("--model", help="Name of the model.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="Who acts, before pseudonymisation.")] = "",
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="The policy file; the built-in one if absent.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show which rule decides on an event, and why the rules before it do not."""
    from mlaudit.policy import commands
    from mlaudit.policy.evaluate import Facts
    from mlaudit.policy.vocabulary import is_kind

    if not is_kind(kind):
        raise typer.BadParameter(
            f"expected a kind of docs/events.md or audit.app.*, found {kind!r}", param_hint="--kind"
        )
    facts = Facts(kind, service, route, model, actor)
    raise typer.Exit(commands.show_explanation(facts, policy, as_json=as_json))


# -- detect ------------------------------------------------------------------------------------------------


@app.command("detect")
def detect(
    elasticsearch: Annotated[
        str, typer.Option("--elasticsearch", help="Address of the cluster.", metavar="URL")
    ],
    once: Annotated[bool, typer.Option("--once", help="Look once and return; repeat it by a timer.")] = False,
    since: Annotated[
        str,
        typer.Option("--since", help="Look at records that arrived since then: 15m, 2h, 1d, or a time."),
    ] = "15m",
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Name or id of a rule; may be given again. All if absent."),
    ] = None,
    index: Annotated[
        str, typer.Option("--index", help="Pattern of the data streams to look into.")
    ] = "logs-mlaudit.*",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", help="CA certificate of the cluster.", metavar="FILE", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Run the detection rules; exit code 0 if nothing is found, 1 for alerts, 2 if it could not look.

    Credentials come from the same variables as those of mlaudit install.
    """
    from mlaudit.detect import commands
    from mlaudit.errors import SourceError

    if not once:
        raise SourceError("expected --once: detect looks once and returns; let a timer repeat it")
    raise typer.Exit(commands.once(elasticsearch, ca_file, since, rule or (), index, as_json=as_json))


# -- verify and keys ---------------------------------------------------------------------------------------


@app.command("verify")
def verify_command(
    source: Annotated[
        Path | None, typer.Argument(help="Spool folder, archive file, or folder of archive files.")
    ] = None,
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            "--elasticsearch", metavar="URL", help="Cluster; credentials by MLAUDIT_ES_* variables."
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="Leave out what is older, e.g. 2026-11-25T03:30:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Leave out what is as young or younger.")] = "",
    stream: Annotated[str, typer.Option(metavar="ID", help="Look at this stream alone.")] = "",
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Trusted .pub files [default: the state folder's]."),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Do not check signatures; says so loudly.")
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="A signed checkpoint that came by another way; repeatable."
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")] = "*",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait for records still on their way to the cluster."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Prove a trail: exit code 0 when all holds, 1 for findings, 2 when it could not look."""
    from mlaudit.verify import commands

    raise typer.Exit(
        commands.verify(
            source,
            elasticsearch=elasticsearch,
            since=since,
            until=until,
            stream=stream,
            keys=keys,
            unsigned=unsigned,
            checkpoints=checkpoint or [],
            namespace=namespace,
            ca_file=ca_file,
            settle=settle,
            as_json=as_json,
        )
    )


keys_app = typer.Typer(help="Keys that sign and verify checkpoints.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

_KeysFolder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Folder of the keys [default: the state folder's]."),
]


@keys_app.command("init")
def keys_init(
    name: Annotated[str | None, typer.Option(help="Name of the signing key [default: the host's].")] = None,
    directory: _KeysFolder = None,
) -> None:
    """Make the signing key, its verifier key, and the key of the pseudonyms; overwrites nothing."""
    from mlaudit.verify import commands

    commands.init_keys(directory, name)


@keys_app.command("show")
def keys_show(directory: _KeysFolder = None) -> None:
    """Print the verifier keys, one a line."""
    from mlaudit.verify import commands

    commands.show_keys(directory)


if __name__ == "__main__":
    main()


# -- spool -------------------------------------------------------------------------------------------------

spool_app = typer.Typer(
    help="Look at the durable spool, and empty what was left behind.", no_args_is_help=True
)
app.add_typer(spool_app, name="spool")


@spool_app.command("status")
def spool_status() -> None:
    """Show every stream of the spool; exit code 1 if records wait to be sent. MLAUDIT_SPOOL_DIR names it."""
    from mlaudit import spool_commands

    raise typer.Exit(spool_commands.status())


@spool_app.command("drain")
def spool_drain(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to go on trying.", min=0)] = 60.0,
) -> None:
    """Send what dead processes left and close their streams with a signature; exit code 1 if some is left."""
    from mlaudit import spool_commands

    raise typer.Exit(spool_commands.drain(seconds))
