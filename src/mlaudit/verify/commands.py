"""``mlaudit verify`` and ``mlaudit keys``, behind the command line."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mlaudit.errors import KeyFileError, MlauditError, SourceError
from mlaudit.seal import keys as key_files
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey
from mlaudit.settings import Settings
from mlaudit.verify.chain import verify_source
from mlaudit.verify.report import safe
from mlaudit.verify.source import Source, open_source, parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HOLDS = 0
FINDINGS = 1
COULD_NOT_LOOK = 2


def verify(
    path: Path | None,
    *,
    elasticsearch: str | None,
    since: str,
    until: str,
    stream: str,
    keys: Path | None,
    unsigned: bool,
    checkpoints: Iterable[Path],
    namespace: str,
    ca_file: Path | None,
    settle: float,
    as_json: bool,
) -> int:
    """Verifies a source, prints the report, and returns the exit code."""
    # Millions of small records without cycles: the collector of cycles would look at them again and again.
    gc.set_threshold(1_000_000, 50, 50)
    console = Console(stderr=True)
    try:
        trusted = None if unsigned else _trusted_keys(keys)
        known = _known_checkpoints(checkpoints, trusted)
        source = _source(path, elasticsearch, namespace, ca_file)
        window: dict[str, Any] = {
            "since": parse_moment(since) if since else "",
            "until": parse_moment(until) if until else "",
            "stream": stream,
        }
        if as_json or not console.is_terminal:
            report = verify_source(source, trusted, **window, checkpoints=known, settle=settle)
        else:
            with console.status("reading …") as status:
                report = verify_source(
                    source,
                    trusted,
                    **window,
                    checkpoints=known,
                    settle=settle,
                    progress=lambda count: status.update(f"{count:,} records read"),
                )
    except MlauditError as error:
        if as_json:
            _write_json({"ok": False, "records": 0, "streams": [], "findings": [], "error": str(error)})
        console.print(
            f"mlaudit verify: could not look: {safe_lines(str(error))}", markup=False, highlight=False
        )
        return COULD_NOT_LOOK
    if as_json:
        _write_json(report.to_json())
    else:
        report.print(Console(highlight=False))
    return HOLDS if report.ok else FINDINGS


def init_keys(folder: Path | None, name: str | None) -> None:
    """Makes the signing key, its verifier key and the key of the pseudonyms.

    Raises:
        KeyFileError: a signing key is there already, or a file cannot be written.
    """
    folder = folder or _keys_folder()
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
    folder = folder or _keys_folder()
    for key in _some_keys(folder).values():
        Console(highlight=False).print(key.encode(), soft_wrap=True, markup=False)


def safe_lines(text: str) -> str:
    """The text made safe for a terminal, line ends kept."""
    return "\n".join(safe(line) for line in text.split("\n"))


def _write_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def _source(path: Path | None, url: str | None, namespace: str, ca_file: Path | None) -> Source:
    if (path is None) == (url is None):
        raise SourceError("expected one source: a path (spool folder, archive) or --elasticsearch URL")
    if path is not None:
        return open_source(path)
    from mlaudit.install.client import credentials
    from mlaudit.verify.elasticsearch import ElasticsearchSource

    trust = ca_file
    if trust is None and (text := os.environ.get("MLAUDIT_ES_CA_FILE")):
        from pathlib import Path

        trust = Path(text)
    return ElasticsearchSource(str(url), credentials(os.environ), ca_file=trust, namespace=namespace)


def _trusted_keys(folder: Path | None) -> dict[str, VerifyingKey]:
    if folder is not None:
        return _some_keys(folder)
    settings = Settings.from_env()
    if settings.signing_key_file is not None:
        public = settings.signing_key_file.with_suffix(key_files.PUBLIC_SUFFIX)
        key = key_files.load_verifier_key(public)
        return {key.id: key}
    return _some_keys(settings.state_dir / "keys")


def _some_keys(folder: Path) -> dict[str, VerifyingKey]:
    trusted = key_files.load_verifier_keys(folder) if folder.is_dir() else {}
    if not trusted:
        raise KeyFileError(
            f"{folder}: expected at least one verifier key (.pub), found none; copy the signing hosts' signing.pub "
            "there (any name ending in .pub), name another folder with --keys, or check without signatures with "
            "--unsigned"
        )
    return trusted


def _keys_folder() -> Path:
    return Settings.from_env().state_dir / "keys"


def _known_checkpoints(paths: Iterable[Path], trusted: dict[str, VerifyingKey] | None) -> list[Checkpoint]:
    """Checkpoints that came by another way; each must be signed by a trusted key."""
    known = []
    for path in paths:
        try:
            note = SignedNote.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path}: expected a signed checkpoint, found {error}") from None
        if trusted is not None and note.signed_by(trusted) is None:
            raise KeyFileError(
                f"{path}: expected a checkpoint signed by a trusted key, found another signature"
            )
        known.append(note.checkpoint)
    return known
