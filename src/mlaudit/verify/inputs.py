"""What the commands over a trail are asked for, in groups: where the records are, what is trusted, which records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """An Elasticsearch cluster; its credentials are in the environment.

    Attributes:
        url: address; None when none was named.
        ca_file: CA of its certificate.
        namespace: namespace of the data streams, ``*`` for all.
    """

    url: str | None
    ca_file: Path | None = None
    namespace: str = "*"


@dataclass(frozen=True, slots=True)
class Trust:
    """What signatures are checked against.

    Attributes:
        keys: folder of trusted verifier keys; None for those that the settings lead to.
        follow_rotations: trust keys that a trusted key vouches for, too.
        checkpoints: signed checkpoints from outside the store: files and folders.
        tsa_ca: certificates (PEM) of trusted time-stamping authorities.
        unsigned: do not check signatures.
    """

    keys: Path | None = None
    follow_rotations: bool = False
    checkpoints: tuple[Path, ...] = ()
    tsa_ca: Path | None = None
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Which records, as a person says it.

    Attributes:
        since: leave out what is older; a date or time.
        until: leave out what is at or after this time.
        stream: this stream alone.
    """

    since: str = ""
    until: str = ""
    stream: str = ""
