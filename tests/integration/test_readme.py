"""Every command of the README is run as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlaudit.stack.cache import cache_dir

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line.removeprefix("$ ") for block in CONSOLE for line in block.splitlines()]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
FIRST_MINUTES = [command for command in COMMANDS if command not in MAKE]
# The README says that this one finds something.
ALLOWED: dict[str, set[int]] = {"mlaudit verify altered": {1}}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a new user, which the unprivileged user that runs Elasticsearch can enter."""
    made = Path(tempfile.mkdtemp(prefix="mlaudit-readme-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def python_of(folder: Path) -> Path:
    """A new virtual environment that sees this one's packages, so that installing downloads nothing twice."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "already-downloaded.pth").write_text(sysconfig.get_path("purelib") + "\n")
    runner = folder / "venv" / "bin" / "uvicorn"
    runner.write_text(f'#!/bin/sh\nexec "{folder}/venv/bin/python" -m uvicorn "$@"\n')
    runner.chmod(0o755)
    return folder / "venv" / "bin" / "python"


def test_the_two_commands_are_what_is_tested() -> None:
    """``make demo`` and ``make test`` are in the README, and run the demo and this test suite."""
    assert MAKE == ["make demo", "make test"]
    wanted = {"make demo": "-m examples.demo", "make test": "pytest"}
    for command in MAKE:
        planned = subprocess.run(
            [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert wanted[command] in planned.stdout


@pytest.mark.timeout(400)
def test_first_five_minutes(folder: Path) -> None:
    """The README's commands succeed when run in order on a clean folder."""
    python = python_of(folder)
    (folder / "home").mkdir()
    (folder / "app.py").write_text(re.search(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[1])  # type: ignore[index]
    results = folder / "results"
    verify = next(command for command in FIRST_MINUTES if command.startswith("mlaudit verify"))
    lines = []
    for command in FIRST_MINUTES:
        if command == verify:  # "a moment later", says the README
            lines.append(f"for _ in $(seq 60); do {verify} >/dev/null 2>&1 && break; sleep 0.5; done")
        lines.append(command.replace("pip install .", f"pip install --quiet {shlex.quote(str(ROOT))}"))
        lines.append(f"echo $? >>{results}")
    lines += ["kill %1", "wait"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))},
        "HOME": str(folder / "home"),
        "MLAUDIT_CACHE": str(cache_dir()),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder / "venv"),
    }
    done = subprocess.run(
        ["bash", "-m", "-c", "\n".join(lines)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    codes = [int(line) for line in results.read_text().split()]
    assert len(codes) == len(FIRST_MINUTES), said
    for command, code in zip(FIRST_MINUTES, codes, strict=True):
        assert code in ALLOWED.get(command, {0}), f"{command} ended with {code}:\n{said}"
    (sealed,) = (folder / "home" / ".local" / "state" / "mlaudit" / "keys").glob("*.pub")
    assert sealed.is_file()
