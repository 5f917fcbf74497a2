"""``mlaudit keys``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlaudit.cli import options, output
from mlaudit.cli.command import JsonErrors

if TYPE_CHECKING:
    from mlaudit.verify.key_folder import NewKeys, RotatedKey

keys_app = typer.Typer(help="Keys that sign and verify checkpoints.", no_args_is_help=True)


@keys_app.command("init", cls=JsonErrors)
def keys_init(
    name: Annotated[str | None, typer.Option(help="Name of the signing key [default: the host's].")] = None,
    directory: options.KeysDirectory = None,
    as_json: options.Json = False,
) -> None:
    """Make the signing key, its verifier key, and the key of the pseudonyms; overwrites nothing."""
    from mlaudit.verify.key_folder import make_keys

    made = make_keys(directory, name)
    if as_json:
        output.write_json(_plain(made))
        return
    there = "was there already" if made.pseudonym_key_existed else "keep it on this host"
    console = output.console()
    for text in (
        f"signing key    {made.signing_key} (keep it on this host)",
        f"pseudonym key  {made.pseudonym_key} ({there})",
        f"verifier key   {made.verifier_key_file} (give it to the auditors):",
        f"  {made.verifier_key}",
    ):
        console.print(text, markup=False)


@keys_app.command("show", cls=JsonErrors)
def keys_show(directory: options.KeysDirectory = None, as_json: options.Json = False) -> None:
    """Print the verifier keys, one a line."""
    from mlaudit.verify.trust import keys_folder, some_keys

    keys = some_keys(directory or keys_folder()).values()
    if as_json:
        output.write_json(
            [
                {"id": key.id, "name": key.name, "key": key.encode(), "not_after": key.not_after}
                for key in keys
            ]
        )
        return
    console = output.console()
    for key in keys:
        retired = f"  # retired, signs nothing after {key.not_after}" if key.not_after else ""
        console.print(f"{key.encode()}{retired}", markup=False)


@keys_app.command("rotate", cls=JsonErrors)
def keys_rotate(
    name: Annotated[str | None, typer.Option(help="Name of the new key [default: the old one's].")] = None,
    directory: options.KeysDirectory = None,
    overlap: Annotated[
        float,
        typer.Option(metavar="HOURS", min=0, help="How long checkpoints by the old key are still right."),
    ] = 24.0,
    as_json: options.Json = False,
) -> None:
    """Put a new signing key in the place of the old one; running services take it at their next checkpoint."""
    from mlaudit.verify.key_folder import rotate_key

    rotated = rotate_key(directory, name, overlap)
    if as_json:
        output.write_json(_plain(rotated))
        return
    console = output.console()
    for text in (
        f"new signing key  {rotated.signing_key} (id {rotated.new_id})",
        f"old key          {rotated.old_id}: its private half is gone; checkpoints by it are right until "
        f"{rotated.not_after}",
        f"statement        {rotated.statement} (signed by both keys)",
        f"Give the auditors {rotated.verifier_key_file} and the statement; they keep the old verifier key:",
        f"  {rotated.verifier_key}",
    ):
        console.print(text, markup=False)


def _plain(made: NewKeys | RotatedKey) -> dict[str, Any]:
    return {
        "ok": True,
        **{name: str(value) if isinstance(value, Path) else value for name, value in asdict(made).items()},
    }
