"""Runs the tests of each integration with the oldest supported version of its library: ``make test-versions``.

Every library gets its own environment under ``build/versions``; the results are written to
``build/versions/results.json``, one row for each library.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import yaml

from mlaudit.capture.integrations import INTEGRATIONS, Registration

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "versions"
MATRIX = Path(__file__).with_name("matrix.yaml")
BESIDE = ("pytest", "pytest-timeout", "hypothesis", "threadpoolctl", "numpy", "joblib", "scikit-learn")


def main() -> int:
    """Exit code 1 when a test failed or an environment could not be created."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names of integrations, joined by commas")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(",")) if arguments.only else None
    matrix: dict[str, Any] = yaml.safe_load(MATRIX.read_text(encoding="utf-8"))
    rows = []
    for registration in INTEGRATIONS:
        settings = matrix.get(registration.name) or {}
        listed = registration.distribution and not settings.get("elsewhere")
        if listed and (wanted is None or registration.name in wanted):
            row = _run(registration, settings)
            print(f"{row['name']:20} {row['version'] or '?':12} {row['outcome']}", flush=True)
            rows.append(row)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return int(any(row["outcome"] != "passed" for row in rows))


def _run(registration: Registration, settings: dict[str, Any]) -> dict[str, Any]:
    folder = FOLDER / registration.name
    begun = time.monotonic()
    row: dict[str, Any] = {"name": registration.name, "distribution": registration.distribution}
    row |= {"oldest": registration.oldest, "version": None}
    log = folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        if not _prepare(registration, settings, folder, output):
            return row | {"outcome": f"could not be installed, see {log.relative_to(ROOT)}"}
        python = folder / "venv/bin/python"
        row["version"] = subprocess.run(
            [
                str(python),
                "-c",
                f"from importlib.metadata import version; print(version({registration.distribution!r}))",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        tests = settings.get("tests") or [f"tests/unit/capture/libraries/test_{registration.name}.py"]
        junit = folder / "junit.xml"
        command = [str(python), "-m", "pytest", "-q", f"--junitxml={junit}", *tests]
        code = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode
    row["seconds"] = round(time.monotonic() - begun, 1)
    suite = ET.parse(junit).getroot().find("testsuite")
    counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    passed = code == 0 and counts["tests"] > counts["skipped"]
    return row | counts | {"outcome": "passed" if passed else f"failed, see {log.relative_to(ROOT)}"}


def _prepare(registration: Registration, settings: dict[str, Any], folder: Path, output: Any) -> bool:
    uv = Path(sys.executable).with_name("uv")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    beside = [name for name in BESIDE if name != registration.distribution]
    wanted = [f"{registration.distribution}=={registration.oldest}.*", *settings.get("with", ()), *beside]
    environment = [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / "venv")]
    python = ["--quiet", "--python", str(folder / "venv/bin/python")]
    commands = (
        environment,
        [str(uv), "pip", "install", *python, "hatchling", "editables", *project["dependencies"], *wanted],
        [str(uv), "pip", "install", *python, "--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    )
    return all(
        subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode == 0
        for command in commands
    )


if __name__ == "__main__":
    sys.exit(main())
