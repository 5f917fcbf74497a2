"""What comes with the package: in the package, beside it in a wheel, or at the top of a checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mlaudit.errors import InstallError
from mlaudit.install.plan import COMPONENT, INDEX, LIFECYCLE, ROLE, Asset

#: A template may only reference what exists already, so component templates come first.
ORDER: Final = (LIFECYCLE, COMPONENT, INDEX, ROLE)
FOLDER: Final = Path(__file__).parent / "elasticsearch"


_PACKAGE: Final = Path(__file__).resolve().parents[1]


def shipped(folder: str) -> Path:
    """A folder that lies at the top of a checkout and that a wheel carries with the package.

    Args:
        folder: its path from the top of a checkout, e.g. ``collector-config``.

    Raises:
        InstallError: it is in neither place.
    """
    places = (_PACKAGE / "_assets" / folder, _PACKAGE.parents[1] / folder)
    for place in places:
        if place.is_dir():
            return place
    raise InstallError(f"expected a folder {places[0]}, found none; reinstall mlaudit-otel")


def packaged(profile: str) -> tuple[Asset, ...]:
    """Every asset of a profile.

    Raises:
        InstallError: there is no such profile in the package.
    """
    folder = FOLDER / profile
    found = tuple(
        Asset(kind, path.stem, json.loads(path.read_bytes()))
        for kind in ORDER
        for path in sorted((folder / kind).glob("*.json"))
    )
    if not found:
        raise InstallError(
            f"expected the assets of profile {profile} in {folder}, found none; reinstall mlaudit"
        )
    return found
