"""The wheel: its content, and that it works outside of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_switch_and_every_asset(wheel: Path) -> None:
    """The wheel has the .pth at its root, the typing mark, the built-in policy and all configuration."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.startswith("mlaudit_otel-")
    for name in (
        "mlaudit.pth",
        "mlaudit/py.typed",
        "mlaudit/policy/default.yaml",
        "mlaudit/_assets/collector-config/collector.yaml",
        "mlaudit/_assets/collector-config/go.sum",
        "mlaudit/_assets/dashboards/kibana/overview.ndjson",
    ):
        assert name in names
    assert any(name.startswith("mlaudit/_assets/detections/compiled/") for name in names)
    assert any(name.startswith("mlaudit/_assets/detections/elastic/") for name in names)
    assert not [name for name in names if "tests/" in name or name.endswith(".pyc")]


def test_installed_wheel_works_on_its_own(wheel: Path, tmp_path: Path) -> None:
    """Installed outside of the checkout, the variable enables auditing and the command finds its assets."""
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    (tmp_path / "run").mkdir()
    program = (
        "import site, sys; site.addsitedir(sys.argv[1])\n"
        "import mlaudit\n"
        "assert mlaudit.__file__.startswith(sys.argv[1]), mlaudit.__file__\n"
        "from mlaudit.capture import instrumentor\n"
        "from mlaudit.detect.plans import load_plans\n"
        "assert len(load_plans()) >= 5\n"
        "print(mlaudit.record('audit.app.thing.done'))\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))},
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
        "MLAUDIT_SHUTDOWN_SECONDS": "0",
        "PYTHONPATH": str(target),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)],
        env=environment,
        cwd=tmp_path / "run",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 36
    assert list((tmp_path / "state" / "spool").iterdir())


def test_switched_off_costs_a_look_at_the_variable() -> None:
    """Without MLAUDIT_ENABLED the interpreter starts without importing anything of mlaudit."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    program = (
        "import sys; print([name for name in sys.modules if name.startswith(('mlaudit', 'opentelemetry'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
