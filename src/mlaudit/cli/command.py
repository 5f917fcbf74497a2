"""The class of every command: where ``--json`` is asked for, an error is JSON on standard output, too."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from mlaudit.cli.output import write_json
from mlaudit.errors import MlauditError


class JsonErrors(TyperCommand):
    """Writes ``{"ok": false, "error": …}`` and leaves message and exit code to the handler of the error."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Reads the arguments; wrong ones are an error as any other."""
        wanted = "--json" in args
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except _UsageError as error:
            if wanted:
                write_json({"ok": False, "error": error.format_message()})
            raise

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        wanted = ctx.params.get("as_json", False)
        try:
            return super().invoke(ctx)
        except MlauditError as error:
            if wanted:
                write_json({"ok": False, "error": str(error)})
            raise
        except _UsageError as error:
            if wanted:
                write_json({"ok": False, "error": error.format_message()})
            raise
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if wanted:
                write_json({"ok": False, "error": f"internal error: {type(error).__name__}: {error}"})
            raise


# Typer brings a copy of click and exports this class only as the base of another.
_UsageError: Any = typer.BadParameter.__bases__[0]
