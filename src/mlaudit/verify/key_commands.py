"""``mlaudit keys``, behind the command line."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console

from mlaudit.seal import keys as key_files
from mlaudit.seal.rotation import NOTE_SUFFIX, ROTATIONS
from mlaudit.settings import Settings
from mlaudit.verify.trust import keys_folder, some_keys

if TYPE_CHECKING:
    from pathlib import Path


def init_keys(folder: Path | None, name: str | None) -> None:
    """Makes the signing key, its verifier key and the key of the pseudonyms.

    Raises:
        KeyFileError: a signing key is there already, or a file cannot be written.
    """
    folder = folder or keys_folder()
    signer = key_files.create_signing_key(
        folder / key_files.SIGNING_KEY, name or socket.gethostname() or "mlaudit"
    )
    console = Console(highlight=False)
    console.print(f"signing key    {folder / key_files.SIGNING_KEY} (keep it on this host)", soft_wrap=True)
    pseudonym = folder / key_files.PSEUDONYM_KEY
    if pseudonym.exists():
        console.print(f"pseudonym key  {pseudonym} (was there already)", soft_wrap=True)
    else:
        key_files.create_pseudonym_key(pseudonym)
        console.print(f"pseudonym key  {pseudonym} (keep it on this host)", soft_wrap=True)
    console.print(f"verifier key   {folder / 'signing.pub'} (give it to whoever verifies):", soft_wrap=True)
    console.print(f"  {signer.public_key.encode()}", soft_wrap=True, markup=False)


def show_keys(folder: Path | None) -> None:
    """Prints the verifier keys of a folder, one a line.

    Raises:
        KeyFileError: there is none, or one is malformed.
    """
    console = Console(highlight=False)
    for key in some_keys(folder or keys_folder()).values():
        retired = f"  # retired, signs nothing after {key.not_after}" if key.not_after else ""
        console.print(f"{key.encode()}{retired}", soft_wrap=True, markup=False)


def rotate_keys(folder: Path | None, name: str | None, overlap_hours: float) -> None:
    """Puts a new signing key in the place of the old one; running services take it at their next checkpoint.

    Raises:
        KeyFileError: there is no key to rotate, or a file cannot be written.
    """
    path = Settings.from_env().signing_key_file if folder is None else None
    path = path or (folder or keys_folder()) / key_files.SIGNING_KEY
    name = name or key_files.load_signing_key(path).public_key.name
    rotation = key_files.rotate_signing_key(path, name, datetime.now(UTC), timedelta(hours=overlap_hours))
    console = Console(highlight=False)
    note = path.parent / ROTATIONS / f"{rotation.new.id}{NOTE_SUFFIX}"
    for text in (
        f"new signing key  {path} (id {rotation.new.id})",
        f"old key          {rotation.old.id}: its private half is gone; checkpoints by it are right until "
        f"{rotation.not_after}",
        f"statement        {note} (signed by both keys)",
        f"Give whoever verifies {path.parent / (rotation.new.id + key_files.PUBLIC_SUFFIX)} and the statement; they "
        "keep the old verifier key:",
    ):
        console.print(text, soft_wrap=True, markup=False)
    console.print(f"  {rotation.new.encode()}", soft_wrap=True, markup=False)
