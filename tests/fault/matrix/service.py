"""The example service with its trained model, behind real servers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.fault.matrix.emitting import ROOT, Audited, CellError, wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.load import Load

UVICORN = (sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log")
UVICORN_WORKERS = (*UVICORN, "--workers", "2")
GUNICORN = (
    *(sys.executable, "-W", "ignore", "-m", "gunicorn", "app:app", "-b", "127.0.0.1:0", "-w", "2"),
    *("-k", "uvicorn.workers.UvicornWorker", "--graceful-timeout", "10", "--no-control-socket"),
)
_LISTENING = re.compile(r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)")
_UP = re.compile(r"Application startup complete")
_USER, _PASSWORD = "alice", "open sesame"


@cache
def _data() -> tuple[bytes, object]:
    """A request's body, and a trained model."""
    data = load_breast_cancer()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(data.data, data.target)
    return json.dumps({"rows": data.data[:1].tolist()}).encode(), model


class Service:
    """One life of the service."""

    def __init__(self, ground: Ground, process: Audited, processes: int) -> None:
        self._ground = ground
        self.process = process
        self.processes = processes
        self.port = 0

    def wait_until_up(self) -> None:
        """Until every process of it answers."""

        def up() -> bool:
            text = self.process.log.read_text(errors="replace")
            if self.process.process.poll() is not None:
                raise CellError(f"the service ended:\n{self.process.tail()}")
            return len(_UP.findall(text)) >= self.processes and bool(_LISTENING.search(text))

        wait_for(up, "the service to answer", 120)
        found = _LISTENING.search(self.process.log.read_text(errors="replace"))
        assert found is not None
        self.port = int(found[1])

    def load(self, name: str = "r") -> Load:
        """Eight clients that ask for predictions."""
        credentials = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        return Load(self.port, "/predict", _data()[0], {"Authorization": f"Basic {credentials}"}, name=name)

    def workers(self) -> list[int]:
        """The processes of it that write to the spool."""
        return [pid for pid in map(holder, self._ground.streams()) if pid]


def start(ground: Ground, command: Sequence[str], processes: int, **more: str) -> Service:
    """Starts the service and returns when all its processes are up."""
    folder = ground.folder / "service"
    if not folder.exists():
        folder.mkdir()
        joblib.dump(_data()[1], folder / "model.joblib")
        (folder / "config.json").write_text(
            json.dumps({"model": str(folder / "model.joblib"), "threshold": 0.5})
        )
        password = hashlib.scrypt(
            _PASSWORD.encode(), salt=_USER.encode(), n=1 << 10, r=8, p=1, dklen=32
        ).hex()
        (folder / "users.json").write_text(json.dumps({_USER: {"role": "analyst", "password": password}}))
    env = ground.environment(
        MODEL_CONFIG=str(folder / "config.json"), MODEL_USERS=str(folder / "users.json"), **more
    )
    service = Service(ground, ground.start(command, env, ROOT / "examples" / "service"), processes)
    service.wait_until_up()
    return service


def holder(stream: Path) -> int:
    """The process that holds a stream's lock, without touching the lock; 0 when none does (proc(5))."""
    try:
        inode = (stream / "lock").stat().st_ino
    except OSError:
        return 0
    for line in Path("/proc/locks").read_text().splitlines():
        parts = line.split()
        if parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
            return int(parts[4])
    return 0


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in done.stdout.split()]
