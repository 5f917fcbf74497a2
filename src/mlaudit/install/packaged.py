"""The assets that come with the package, in the order in which they must be installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mlaudit.errors import InstallError
from mlaudit.install.plan import COMPONENT, INDEX, LIFECYCLE, ROLE, Asset

#: A template may only reference what exists already, so component templates come first.
ORDER: Final = (LIFECYCLE, COMPONENT, INDEX, ROLE)
FOLDER: Final = Path(__file__).parent / "elasticsearch"


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
