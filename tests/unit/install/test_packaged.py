"""The assets inside the package."""

from __future__ import annotations

import pytest

from mlaudit.errors import InstallError
from mlaudit.install.packaged import packaged
from mlaudit.install.plan import COMPONENT, INDEX


def test_parts_come_before_templates() -> None:
    """A template can only be put after the parts it is composed of."""
    kinds = [asset.kind for asset in packaged("reduced")]
    assert kinds.index(INDEX) > max(at for at, kind in enumerate(kinds) if kind == COMPONENT)


def test_unknown_profile_is_refused() -> None:
    """A profile without assets is an error, never an install of nothing."""
    with pytest.raises(InstallError, match="profile nosuch"):
        packaged("nosuch")
