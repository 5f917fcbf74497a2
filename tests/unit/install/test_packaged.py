"""The assets inside the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlaudit.errors import InstallError
from mlaudit.install import packaged as packaged_module
from mlaudit.install.packaged import packaged, shipped
from mlaudit.install.plan import COMPONENT, INDEX


def test_parts_come_before_templates() -> None:
    """A template can only be put after the parts it is composed of."""
    kinds = [asset.kind for asset in packaged("reduced")]
    assert kinds.index(INDEX) > max(at for at, kind in enumerate(kinds) if kind == COMPONENT)


def test_unknown_profile_is_refused() -> None:
    """A profile without assets is an error, never an install of nothing."""
    with pytest.raises(InstallError, match="profile nosuch"):
        packaged("nosuch")


@pytest.mark.parametrize("wheel", [True, False])
def test_a_shipped_folder_is_found_in_a_wheel_and_in_a_checkout(
    wheel: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder inside the package takes precedence over one in the checkout."""
    package = tmp_path / "src" / "mlaudit"
    places = [tmp_path / "collector-config", *([package / "_assets" / "collector-config"] if wheel else [])]
    for place in places:
        place.mkdir(parents=True)
    monkeypatch.setattr(packaged_module, "_PACKAGE", package)
    assert shipped("collector-config") == places[-1]
    with pytest.raises(InstallError, match=r"expected a folder .*dashboards, found none; reinstall"):
        shipped("dashboards")
