"""Real processes that end in every way, and the contents of their spools afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlaudit.deliver.spool.files import read_frames

STARTED = "audit.service.started"
STOPPED = "audit.service.stopped"
CRASHED = "audit.service.crashed"
ENDED = "audit.stream.ended"
BEGIN = """
from sklearn.base import BaseEstimator
from sklearn.tree import DecisionTreeClassifier
import os, signal, sys, threading, time
DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
print("ready", flush=True)
"""


# Not one long sleep: Python looks for a signal before it and after it, and one that comes in between waits for its end.
WAIT = "while True:\n    time.sleep(0.1)\n"


def environment(folder: Path, **further: str) -> dict[str, str]:
    """The environment of an audited process whose collector does not respond."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_SERVICE_NAME": "process",
        "MLAUDIT_STATE_DIR": str(folder / "state"),
        "MLAUDIT_ENDPOINT": "http://127.0.0.1:9",
        "MLAUDIT_SHUTDOWN_SECONDS": "0",
        "MLAUDIT_OTEL": "off",
        "OMP_NUM_THREADS": "1",
        **further,
    }


def start(folder: Path, program: str, **further: str) -> subprocess.Popen[str]:
    """Starts a process that trains a model under audit, reports it, and then runs ``program``."""
    script = folder / "program.py"
    script.write_text(BEGIN + program, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(folder, **further),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # The parent of the test run, or an earlier test, may ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=30)
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def streams(folder: Path) -> list[list[dict[str, Any]]]:
    """The records of each stream in the spool, oldest stream first."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    found = []
    for stream in sorted((folder / "state" / "spool").iterdir()):
        records: list[dict[str, Any]] = []
        for segment in sorted(stream.glob("*.seg")):
            frames, torn = read_frames(segment)
            assert torn == 0
            records += [json.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]
        found.append(records)
    return found


def kinds(records: list[dict[str, Any]]) -> list[str]:
    """Of the records of one stream."""
    return [record["audit.kind"] for record in records]


def test_exit(tmp_path: Path) -> None:
    """A program that exits normally has a start, a stop and a signed end."""
    assert end(start(tmp_path, ""))[0] == 0
    (records,) = streams(tmp_path)
    assert kinds(records)[2:] == [
        STARTED,
        "audit.ml.training.started",
        "audit.ml.training.completed",
        STOPPED,
        ENDED,
    ]
    assert records[-2]["event.reason"] == "exit"


def test_data_that_is_still_being_read_at_the_end(tmp_path: Path) -> None:
    """The part of a file that the program has read when it ends is recorded before its end."""
    (tmp_path / "x.csv").write_text("a\n" + "1\n" * 10)
    program = "import pandas\nreader = pandas.read_csv('x.csv', chunksize=3)\nreader.get_chunk()\n"
    assert end(start(tmp_path, program))[0] == 0
    (records,) = streams(tmp_path)
    assert kinds(records)[-3:] == ["audit.data.read", STOPPED, ENDED]
    assert (
        next(record for record in records if record["audit.kind"] == "audit.data.read")["ml.dataset.rows"]
        == 3
    )


def test_sigterm(tmp_path: Path) -> None:
    """SIGTERM is recorded, and the process dies by it as without auditing."""
    process = start(tmp_path, WAIT)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == -signal.SIGTERM
    (records,) = streams(tmp_path)
    assert kinds(records)[-2:] == [STOPPED, ENDED]
    assert records[-2]["event.reason"] == "SIGTERM"


def test_sigterm_while_the_interrupted_thread_holds_the_lock(tmp_path: Path) -> None:
    """A signal that arrives while a record is being written neither hangs the process nor loses its stop."""
    program = """
from mlaudit.pipeline import current
stream = current.pipeline().stream
with stream._lock:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
time.sleep(60)
"""
    began = time.monotonic()
    assert end(start(tmp_path, program))[0] == -signal.SIGTERM
    assert time.monotonic() - began < 30
    (records,) = streams(tmp_path)
    assert kinds(records)[-2:] == [STOPPED, ENDED]


def test_own_sigterm_handler_of_the_program(tmp_path: Path) -> None:
    """A program that handles SIGTERM itself keeps doing so; its exit is recorded."""
    process = start(
        tmp_path,
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\nprint('x', flush=True)\n{WAIT}",
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 3
    (records,) = streams(tmp_path)
    assert kinds(records)[-2:] == [STOPPED, ENDED]


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C is a stop with its reason, not a crash, and the program shows its own traceback."""
    process = start(tmp_path, WAIT)
    process.send_signal(signal.SIGINT)
    code, errors = end(process)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    (records,) = streams(tmp_path)
    assert records[-2]["event.reason"] == "SIGINT"


def test_crash(tmp_path: Path) -> None:
    """An unhandled exception is recorded as a crash, with its stack, and is still printed."""
    code, errors = end(start(tmp_path, "def serve():\n    raise RuntimeError('broken')\nserve()"))
    assert code == 1
    assert "RuntimeError: broken" in errors
    (records,) = streams(tmp_path)
    assert kinds(records)[-2:] == [CRASHED, ENDED]
    assert "in serve" in records[-2]["error.stack_trace"]


def test_crash_before_the_first_event_is_told(tmp_path: Path) -> None:
    """A service that fails during startup, before its first audited event, leaves a trail."""
    script = tmp_path / "program.py"
    script.write_text("import sklearn.tree\nraise RuntimeError('no model')", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, str(script)],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    (records,) = streams(tmp_path)
    assert kinds(records)[2:] == [STARTED, CRASHED, ENDED]


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"])
def test_program_that_only_records_its_own_events(end: str, tmp_path: Path) -> None:
    """A program without any hooked library has a start, a stop and a signed end, also on SIGTERM."""
    script = tmp_path / "program.py"
    script.write_text(f"import mlaudit, os, signal, time\nmlaudit.record('audit.app.report.exported')\n{end}")
    done = subprocess.run([sys.executable, str(script)], env=environment(tmp_path), timeout=60, check=False)
    assert done.returncode == (-signal.SIGTERM if end else 0)
    (records,) = streams(tmp_path)
    assert kinds(records)[2:] == [STARTED, "audit.app.report.exported", STOPPED, ENDED]


def test_process_without_machine_learning_leaves_nothing(tmp_path: Path) -> None:
    """A program that imports scikit-learn and trains nothing has no spool at all."""
    script = tmp_path / "program.py"
    script.write_text("import sklearn.tree\nprint('done')", encoding="utf-8")
    subprocess.run(
        [sys.executable, str(script)], env=environment(tmp_path), cwd=tmp_path, timeout=60, check=True
    )
    assert not (tmp_path / "state").exists()


def test_kill_leaves_an_open_stream(tmp_path: Path) -> None:
    """After SIGKILL everything that was recorded is in the spool, without an end."""
    process = start(tmp_path, WAIT)
    process.kill()
    end(process)
    (records,) = streams(tmp_path)
    assert kinds(records)[-1] == "audit.ml.training.completed"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_child_has_its_own_end(tmp_path: Path, method: str) -> None:
    """A child that trains has its own stream, which ends although the child exits by os._exit."""
    program = f"""
import multiprocessing
def work():
    DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join(60)
    sys.exit(child.exitcode)
"""
    assert end(start(tmp_path, program))[0] == 0
    found = streams(tmp_path)
    assert len(found) == 2
    for records in found:
        assert kinds(records)[-2:] == [STOPPED, ENDED]
    # A spawned child imports, and trains, before multiprocessing identifies it as one; it ends like a program.
    assert {records[-2]["event.reason"] for records in found} <= {"exit", "end of the worker process"}


def test_restart_is_linked_and_a_new_package_is_told(tmp_path: Path) -> None:
    """The second start names the first's stream, and the packages installed in between."""
    end(start(tmp_path, ""))
    (tmp_path / "lib" / "fraud_rules-2.0.dist-info").mkdir(parents=True)
    end(start(tmp_path, "", PYTHONPATH=str(tmp_path / "lib")))
    *_, records = streams(tmp_path)
    assert records[0]["audit.stream.previous.id"]
    changed = [record for record in records if record["audit.kind"] == "audit.environment.changed"]
    assert changed[0]["audit.environment.changes"] == [
        "fraud-rules (none) -> 2.0",
        "variable PYTHONPATH added",
    ]


def test_example_is_audited_without_a_line_about_it(tmp_path: Path) -> None:
    """The example's run is recorded from the search to the saved file; its source does not mention mlaudit."""
    example = Path(__file__).parents[2] / "examples" / "training" / "train.py"
    assert "audit" not in example.read_text(encoding="utf-8")
    model = tmp_path / "models" / "breast-cancer.joblib"
    subprocess.run(
        [sys.executable, str(example), str(model)], env=environment(tmp_path), timeout=120, check=True
    )
    assert b"mlaudit" not in model.read_bytes()
    (records,) = streams(tmp_path)
    assert kinds(records)[3:] == [
        "audit.ml.training.started",
        "audit.ml.training.completed",
        "audit.ml.training.evaluated",
        "audit.ml.prediction",
        "audit.ml.training.evaluated",
        "audit.ml.model.saved",
        STOPPED,
        ENDED,
    ]
    searched, reported = (record for record in records if record["audit.kind"].endswith(".evaluated"))
    assert reported["ml.training.method"] == "classification_report"
    by_kind = {record["audit.kind"]: record for record in records} | {searched["audit.kind"]: searched}
    assert by_kind["audit.ml.training.completed"]["ml.training.candidates"] == 4
    assert by_kind["audit.ml.training.evaluated"]["ml.training.metrics"]["roc_auc"] > 0.95
    assert (
        by_kind["audit.ml.model.saved"]["ml.model.digest"] == hashlib.sha256(model.read_bytes()).hexdigest()
    )
    run = by_kind["audit.ml.training.completed"]["ml.training.run_id"]
    assert by_kind["audit.ml.model.saved"]["ml.training.run_id"] == run


def test_worker_processes_of_a_search_train_for_it(tmp_path: Path) -> None:
    """A search over worker processes is one training run, also for a class of the script itself."""
    program = """
from sklearn.base import ClassifierMixin
from sklearn.model_selection import GridSearchCV
class Own(ClassifierMixin, BaseEstimator):
    def __init__(self, depth=1):
        self.depth = depth
    def fit(self, X, y):
        self.classes_ = sorted(set(y))
        self.tree_ = DecisionTreeClassifier(max_depth=self.depth).fit(X, y)
        return self
    def predict(self, X):
        return self.tree_.predict(X)
if __name__ == "__main__":
    GridSearchCV(Own(), {"depth": [1, 2]}, cv=2, n_jobs=2).fit([[0.0], [1.0]] * 4, [0, 1] * 4)
"""
    code, errors = end(start(tmp_path, program))
    assert code == 0, errors
    trainings = [
        kind for records in streams(tmp_path) for kind in kinds(records) if kind.startswith("audit.ml")
    ]
    assert trainings == ["audit.ml.training.started", "audit.ml.training.completed"] * 2


def test_trainings_that_workers_do_for_the_user_are_recorded(tmp_path: Path) -> None:
    """Models that user code trains in parallel are training runs of their own, with the user's run as their parent."""
    program = """
import joblib, mlaudit
def train(seed):
    return DecisionTreeClassifier(random_state=seed).fit([[0.0], [1.0]], [0, 1])
if __name__ == "__main__":
    with mlaudit.training_run("many") as run:
        joblib.Parallel(n_jobs=2)(joblib.delayed(train)(seed) for seed in range(4))
"""
    code, errors = end(start(tmp_path, program))
    assert code == 0, errors
    found = [record for records in streams(tmp_path) for record in records]
    trained = [record for record in found if record["audit.kind"] == "audit.ml.training.completed"]
    children = [record for record in trained if record.get("ml.training.parent_run_id")]
    assert len(children) == 4
    run = next(record for record in trained if record["ml.training.method"] == "run")
    assert {record["ml.training.parent_run_id"] for record in children} == {run["ml.training.run_id"]}
