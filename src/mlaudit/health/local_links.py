"""The first links, on this machine: settings, policy, keys, spool folder."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool.files import make_folder, replace_file
from mlaudit.errors import MlauditError, SettingsError, SpoolError
from mlaudit.health.checks import BrokenLinkError, CheckContext, Outcome
from mlaudit.health.status import size
from mlaudit.pipeline.backend import SpoolBackend, keys_dir, pseudonym_key
from mlaudit.safety.file_lock import is_held, locked
from mlaudit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

_FSYNC_TRIES: Final = 5
#: A group commit waits for the disk: above this, durable records slow the service down visibly.
_SLOW_FSYNC: Final = 0.05
_LEAST_FREE: Final = 16 << 20
_NETWORK_DISKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph"})


def settings(context: CheckContext) -> Outcome:
    """Every MLAUDIT_* variable, as a service in this environment would read it."""
    try:
        found = context.settings = Settings.from_env(context.env)
    except SettingsError as error:
        raise BrokenLinkError(
            "settings that can be used", "; ".join(error.faults), "correct these variables (docs/settings.md)"
        ) from None
    context.secrets |= {value for _, value in found.headers if len(value) > 3}
    if found.token_file is not None:
        context.secrets |= _content(found.token_file)
    for name in ("MLAUDIT_ES_PASSWORD", "MLAUDIT_ES_API_KEY"):
        context.secrets |= {value for value in (context.env.get(name, ""),) if value}
    _refuse_foreign_folders(found)
    outcome = Outcome(
        f"service {found.service_name}, to {found.endpoint.partition('?')[0]}, spool {found.spool_dir}"
    )
    if not found.enabled:
        outcome.warn(
            "MLAUDIT_ENABLED is not set here: a service started from this environment is not audited",
            "set MLAUDIT_ENABLED=true for the service",
        )
    return outcome


def policy(context: CheckContext) -> Outcome:
    """The policy file, compiled with the key of the pseudonyms."""
    found = context.known
    try:
        context.policy = SpoolBackend(found).policy()
    except MlauditError as error:
        where = str(found.policy) if found.policy else "the built-in policy"
        raise BrokenLinkError(
            f"a policy that can be used ({where})",
            str(error),
            "correct it; mlaudit policy check lists every fault",
        ) from None
    return Outcome(f"{found.policy or 'built in'}, digest {context.policy.digest[:16]}")


def keys(context: CheckContext) -> Outcome:
    """The signing key with its verifier key, and the pseudonym key: present, private, matching."""
    found = context.known
    new = not keys_dir(found).exists()
    try:
        context.key = SpoolBackend(found).signer().public_key
        pseudonym_key(found)
    except MlauditError as error:
        raise BrokenLinkError(
            "a signing key and a pseudonym key that only their owner can read",
            str(error),
            "see docs/verify.md, Keys",
        ) from None
    outcome = Outcome(f"signing key {context.key.id} ({context.key.name})")
    if new:
        outcome.warn(
            f"no keys existed; they were created in {keys_dir(found)}",
            "give the .pub file to the auditors",
        )
    return outcome


def spool(context: CheckContext) -> Outcome:
    """The spool folder: writable, private, with locks that hold, an fsync that works, and room."""
    found = context.known
    folder = found.spool_dir
    trial = folder / f".doctor-{os.getpid()}"
    remedy = f"make {folder} a writable folder of this user on a local disk, or name another one by MLAUDIT_SPOOL_DIR"
    try:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        _try_lock(trial)
        seconds = _try_fsync(trial)
    except SpoolError as error:
        raise BrokenLinkError("a spool folder that can be written", str(error), remedy) from None
    except OSError as error:
        raise BrokenLinkError(
            "a spool folder that can be written, synced and locked",
            f"{folder}: {error.strerror or error}",
            remedy,
        ) from None
    finally:
        with suppress(OSError):
            trial.unlink()
    if free < _LEAST_FREE:
        raise BrokenLinkError(f"room on the disk of {folder}", f"{size(free)} free", "make room")
    outcome = Outcome(f"{folder}: fsync {seconds * 1000:.1f} ms, {size(free)} free")
    if free < found.spool_max_bytes:
        outcome.warn(
            f"{size(free)} free, while each process may hold {size(found.spool_max_bytes)} unsent",
            "free space, or lower MLAUDIT_SPOOL_MAX_BYTES",
        )
    if seconds > _SLOW_FSYNC:
        outcome.warn(
            f"an fsync takes {seconds * 1000:.0f} ms, and every durable record waits for one",
            "put the spool on a faster disk",
        )
    if (kind := filesystem(folder)) in _NETWORK_DISKS:
        outcome.warn(f"the spool is on a network file system ({kind})", "put it on a local disk")
    if folder.stat().st_mode & 0o077:
        outcome.warn(f"others may enter {folder}", f"chmod 700 {folder}")
    return outcome


def _refuse_foreign_folders(found: Settings) -> None:
    """Refuse to leave files, as root, that the service cannot read."""
    for folder in (found.state_dir, found.spool_dir):
        owner = folder.stat().st_uid if folder.is_dir() else 0
        if os.geteuid() == 0 and owner != 0:
            raise BrokenLinkError(
                f"to run as the user whose folder {folder} is",
                f"root, while it belongs to user {owner}",
                f"run it as the service runs: sudo -u '#{owner}' --preserve-env mlaudit doctor",
            )


def filesystem(folder: Path) -> str:
    """The file system type of a folder; "" where it is unknown."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - no path of ours
            lines = [line.split(" ") for line in mounts]
    except OSError:
        return ""
    real = str(folder.resolve())
    best, kind = "", ""
    for line in lines:
        point = line[1].replace("\\040", " ") if len(line) > 2 else ""
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, line[2]
    return kind


def _try_lock(path: Path) -> None:
    """The lock that marks a living process must exclude a second holder."""
    with locked(path, 0):
        if not is_held(path):
            raise OSError(0, "a file system whose locks do not exclude each other (flock)")


def _try_fsync(path: Path) -> float:
    """The median time of a small write that survives a power failure."""
    times = []
    for number in range(_FSYNC_TRIES):
        begun = time.monotonic()
        replace_file(path, b"%d" % number)
        times.append(time.monotonic() - begun)
    return sorted(times)[_FSYNC_TRIES // 2]


def _content(path: Path) -> set[str]:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return set()
    return {text} if text else set()
