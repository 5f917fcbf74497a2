"""``mlaudit checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mlaudit.cli import options, output
from mlaudit.cli.command import JsonErrors
from mlaudit.safety.printable import safe

checkpoint_app = typer.Typer(help="Signed checkpoints outside the store.", no_args_is_help=True)


@checkpoint_app.command("export", cls=JsonErrors)
def checkpoint_export(
    source: Annotated[
        list[Path] | None,
        typer.Argument(help="Archives or spool folders [default: this host's spool and what it retains]."),
    ] = None,
    elasticsearch: options.Elasticsearch = None,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder, one file a stream; - prints.")] = "",
    append: Annotated[
        Path | None, typer.Option("--append", metavar="FILE", help="Append to this file.")
    ] = None,
    stream: options.Stream = "",
    keys: options.Keys = None,
    namespace: options.Namespace = "*",
    ca_file: options.CaFile = None,
    tsa: Annotated[
        str, typer.Option("--tsa", metavar="URL", help="Have each file time-stamped by this authority.")
    ] = "",
    tsa_ca: options.TsaCa = None,
    as_json: options.Json = False,
) -> None:
    """Export the newest signed checkpoint of every stream; exit code 1 if it contradicts what was exported."""
    from mlaudit.settings import Settings
    from mlaudit.verify.export import export
    from mlaudit.verify.inputs import Cluster
    from mlaudit.verify.sources.open_source import local_sources, open_cluster, open_source
    from mlaudit.verify.trust import trusted_keys

    sources = [open_source(path) for path in source or ()]
    if elasticsearch:
        sources.append(open_cluster(Cluster(elasticsearch, ca_file, namespace)))
    sources = sources or local_sources(Settings.from_env().spool_dir)
    report = export(sources, trusted_keys(keys), to=to, append=append, stream=stream, tsa=tsa, tsa_ca=tsa_ca)
    if as_json:
        output.write_json(
            {
                "ok": not report.problems,
                "counts": dict(sorted(report.counts.items())),
                "problems": report.problems,
                "notes": report.notes,
            }
        )
    else:
        output.write("".join(f"{note}\n" for note in report.notes))
        console = output.progress()
        for text in report.problems:
            console.print(f"[bold red]NOT EXPORTED[/] {escape(safe(text))}")
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(report.counts.items()))
        console.print(counts or "nothing exported")
    raise typer.Exit(output.FINDINGS if report.problems else output.FINE)
