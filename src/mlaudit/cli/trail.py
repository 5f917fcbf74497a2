"""What proves a trail and makes it whole: ``mlaudit verify``, ``keys``, ``checkpoint`` and ``resend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    follow_rotations: Annotated[
        bool,
        typer.Option(
            "--follow-rotations", help="Trust keys that a trusted key vouches for by a rotation, too."
        ),
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            metavar="PATH",
            help="Signed checkpoints that came by another way, a file or a folder; repeatable.",
        ),
    ] = None,
    tsa_ca: Annotated[
        Path | None,
        typer.Option(
            "--tsa-ca", metavar="FILE", help="Certificates of trusted time-stamping authorities (PEM)."
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
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage", help="Compare what is signed with what Elasticsearch holds, record by record."
        ),
    ] = False,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            "--archive",
            metavar="PATH",
            help="With --coverage: look here, too, for what is missing; repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Prove a trail: exit code 0 when all holds, 1 for findings, 2 when it could not check."""
    if coverage:
        from mlaudit.verify.repair.coverage_commands import coverage as measure

        if unsigned or until:
            raise typer.BadParameter(
                "expected no --unsigned and no --until: coverage is about what is signed"
            )

        raise typer.Exit(
            measure(
                elasticsearch,
                namespace=namespace,
                ca_file=ca_file,
                keys=keys,
                follow_rotations=follow_rotations,
                checkpoints=checkpoint or [],
                archives=[*(archive or []), *([source] if source else [])],
                stream=stream,
                since=since,
                settle=settle,
                as_json=as_json,
            )
        )
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
            follow_rotations=follow_rotations,
            checkpoints=checkpoint or [],
            tsa_ca=tsa_ca,
            namespace=namespace,
            ca_file=ca_file,
            settle=settle,
            as_json=as_json,
        )
    )


keys_app = typer.Typer(help="Keys that sign and verify checkpoints.", no_args_is_help=True)

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
    from mlaudit.verify import key_commands

    key_commands.init_keys(directory, name)


@keys_app.command("show")
def keys_show(directory: _KeysFolder = None) -> None:
    """Print the verifier keys, one a line."""
    from mlaudit.verify import key_commands

    key_commands.show_keys(directory)


@keys_app.command("rotate")
def keys_rotate(
    name: Annotated[str | None, typer.Option(help="Name of the new key [default: the old one's].")] = None,
    directory: _KeysFolder = None,
    overlap: Annotated[
        float,
        typer.Option(metavar="HOURS", min=0, help="How long checkpoints by the old key are still right."),
    ] = 24.0,
) -> None:
    """Put a new signing key in the place of the old one; running services take it at their next checkpoint."""
    from mlaudit.verify import key_commands

    key_commands.rotate_keys(directory, name, overlap)


checkpoint_app = typer.Typer(help="Signed checkpoints outside the store.", no_args_is_help=True)


@checkpoint_app.command("export")
def checkpoint_export(
    source: Annotated[
        list[Path] | None,
        typer.Argument(help="Archives or spool folders [default: this host's spool and what it retains]."),
    ] = None,
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            "--elasticsearch", metavar="URL", help="Cluster; credentials by MLAUDIT_ES_* variables."
        ),
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder, one file a stream; - prints.")] = "",
    append: Annotated[
        Path | None, typer.Option("--append", metavar="FILE", help="Put them behind what is in this file.")
    ] = None,
    stream: Annotated[str, typer.Option(metavar="ID", help="This stream alone.")] = "",
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Trusted .pub files [default: the state folder's]."),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")] = "*",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    tsa: Annotated[
        str, typer.Option("--tsa", metavar="URL", help="Have each file time-stamped by this authority.")
    ] = "",
    tsa_ca: Annotated[
        Path | None,
        typer.Option("--tsa-ca", metavar="FILE", help="Its certificate, to check the stamp at once."),
    ] = None,
) -> None:
    """Export the newest signed checkpoint of every stream; exit code 1 if it contradicts what was exported."""
    from mlaudit.settings import Settings
    from mlaudit.verify.export import export
    from mlaudit.verify.sources.open_source import cluster, local_sources, open_source
    from mlaudit.verify.trust import trusted_keys

    sources = [open_source(path) for path in source or ()]
    if elasticsearch:
        sources.append(cluster(elasticsearch, namespace, ca_file))
    sources = sources or local_sources(Settings.from_env().spool_dir)
    raise typer.Exit(
        export(sources, trusted_keys(keys), to=to, append=append, stream=stream, tsa=tsa, tsa_ca=tsa_ca)
    )


def resend_command(
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            "--elasticsearch", metavar="URL", help="Cluster; credentials by MLAUDIT_ES_* variables."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that is kept here, not only what is missing.")
    ] = False,
    stream: Annotated[str, typer.Option(metavar="ID", help="This stream alone.")] = "",
    archive: Annotated[
        list[Path] | None,
        typer.Option("--archive", metavar="PATH", help="Archive file or folder; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and check, send nothing.")] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until all of it is stored.")
    ] = 60.0,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Trusted .pub files [default: the state folder's]."),
    ] = None,
    follow_rotations: Annotated[
        bool,
        typer.Option(
            "--follow-rotations", help="Trust keys that a trusted key vouches for by a rotation, too."
        ),
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="PATH", help="Exported checkpoints, a file or a folder; repeatable."
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")] = "*",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Send again what Elasticsearch lacks, from what this host retains or from an archive.

    Exit code 0 when all of it is stored, 1 when some is still missing, 2 when it could not check. The collector is
    that of the MLAUDIT_* settings.
    """
    from mlaudit.verify.repair.resend_commands import resend

    raise typer.Exit(
        resend(
            elasticsearch,
            everything=everything,
            dry_run=dry_run,
            stream=stream,
            archives=archive or [],
            wait=wait,
            as_json=as_json,
            namespace=namespace,
            ca_file=ca_file,
            keys=keys,
            follow_rotations=follow_rotations,
            checkpoints=checkpoint or [],
        )
    )
