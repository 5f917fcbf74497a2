"""Runtime events of whole processes: starts, restarts, debuggers, unpickling, programs, files."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import wait_for
from tests.integration.served import environment, of, records, request, started

STARTED = "audit.service.started"
TRAINS = "from sklearn.linear_model import LogisticRegression as L\nL().fit([[0.0], [1.0]], [0, 1])\n"
UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]
LISTENING = r"running on http://127\.0\.0\.1:(\d+)"
SERVICE = """
import asyncio, logging, os, pickle, subprocess
from fastapi import FastAPI

app = FastAPI()

@app.get("/ping")
async def ping():
    return {"pid": os.getpid()}

@app.get("/convert")
def convert():
    return subprocess.run(["true", "--token=hunter2secret"]).returncode

@app.get("/load")
def load():
    return str(pickle.loads(open("model.pkl", "rb").read()))

@app.get("/fail")
def fail():
    raise KeyError("threshold")

@app.get("/task")
async def task():
    async def lost():
        raise RuntimeError("lost")
    app.state.task = asyncio.create_task(lost())
    await asyncio.sleep(0)
    app.state.task = None
    return {}
"""


class Command:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def python(
    arguments: Sequence[str], env: dict[str, str], typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter with input on stdin."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=env,
        input=typed,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def sessions(state: Path) -> list[tuple[str, str, str]]:
    """Kind, tool and event of every record of a debugger or shell."""
    return [
        (
            record["audit.kind"].rpartition(".")[2],
            record["audit.debug.tool"],
            record.get("audit.runtime.event", ""),
        )
        for record in records(state)
        if record["audit.kind"].startswith("audit.debug.")
    ]


def starts(state: Path) -> list[tuple[str, str]]:
    """How each start found the service, in the order of time."""
    found = sorted(of(STARTED, records(state)), key=lambda record: record["@timestamp"])
    return [(record["audit.service.start"], record.get("audit.service.previous.end", "")) for record in found]


def until(state: Path, kind: str, count: int) -> None:
    """Waits for records of a running process."""

    def there() -> bool:
        try:
            return len(of(kind, records(state))) >= count
        except AssertionError:  # the end of a segment was being written
            return False

    wait_for(there, f"{count} records of {kind}", 60)


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """The folder of a service with a dangerous model file."""
    (tmp_path / "app.py").write_text(SERVICE)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Command()))
    return tmp_path


def test_job_that_runs_again_is_a_restart(tmp_path: Path) -> None:
    """Each run records how the previous one ended: normally, by a crash, or without a stop record."""
    env = environment(tmp_path)
    for ending in (
        "",
        "raise ValueError('x')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "",
    ):
        python(["-c", TRAINS + ending], env)
    assert starts(tmp_path) == [
        ("first", ""),
        ("restart", "exit"),
        ("restart", "crash"),
        ("restart", "killed"),
    ]
    told = of(STARTED, records(tmp_path))
    downtimes = [record.get("audit.service.previous.downtime", 0) > 0 for record in told]
    assert sorted(downtimes) == [False, False, True, True]
    for record in told:
        assert record["audit.environment.digest"]
        assert record["vcs.ref.head.revision"]
        assert record["process.command_line"]
        assert record["host.name"]
        assert record["labels"]["role"] == "job"


def test_service_that_is_killed_and_started_again(service: Path) -> None:
    """SIGKILL leaves no stop record; the next start of the service records that. The service itself records SIGTERM."""
    state = service / "state"
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        with started(UVICORN, service, environment(state)) as process:
            process.wait_for(LISTENING)
            process.stop(number)
    assert starts(state) == [
        ("first", ""),
        ("restart", "killed"),
        ("restart", "shutdown of the web service"),
    ]
    assert {record["labels"]["role"] for record in of(STARTED, records(state))} == {"service"}


def test_workers_are_no_restarts_of_each_other(service: Path) -> None:
    """Two concurrent workers are no restart of each other; a worker that replaces a killed one is a restart."""
    state = service / "state"
    command = [sys.executable, "-m", "gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "app:app"]
    with started([*command, "--bind", "127.0.0.1:0"], service, environment(state)) as process:
        until(state, STARTED, 2)
        assert starts(state) == [("first", ""), ("beside", "")]
        victim = of(STARTED, records(state))[0]["process.pid"]
        os.kill(victim, signal.SIGKILL)
        until(state, STARTED, 3)
        assert starts(state)[2] == ("restart", "killed")
        process.stop()


def test_service_tells_what_it_is_made_to_do(service: Path) -> None:
    """Program, dangerous pickle, watched file, lost task: each has its line; a failed request has one record."""
    state = service / "state"
    env = environment(state, MLAUDIT_WATCH=str(service / "*.pkl"))
    with started(UVICORN, service, env) as process:
        port = int(process.wait_for(LISTENING)[1])
        for path in ("/convert", "/load", "/load", "/fail", "/task"):
            request(port, path=path)
        until(state, "audit.error.reported", 1)
        process.stop()
    found = records(state)
    programs = of("audit.runtime.process.started", found)
    assert [(one["audit.target.id"], one["audit.runtime.event"]) for one in programs] == [
        ("true", "subprocess.Popen"),
        ("/bin/sh", "os.system"),
        ("/bin/sh", "os.system"),
    ]
    assert programs[0]["code.function.name"] == "convert"
    assert "hunter2secret" not in json.dumps(found)
    (pickled,) = of("audit.runtime.deserialized", found)
    assert (pickled["audit.runtime.detail"], pickled["code.function.name"]) == ("posix.system", "load")
    opened = of("audit.runtime.file.opened", found)
    assert opened[0]["file.path"] == str(service / "model.pkl")
    assert opened[0]["code.function.name"] == "load"
    assert opened[-1]["event.reason"] == "and 1 times more since the last record of it"
    (lost,) = of("audit.error.reported", found)
    assert (lost["error.type"], lost["event.reason"]) == (
        "RuntimeError",
        "unhandled in an asyncio task or callback",
    )
    assert [one["http.route"] for one in found if one.get("error.type") == "KeyError"] == ["/fail"]
    assert of("audit.pipeline.failure", found) == []
    assert sessions(state) == []


def test_record_is_there_before_a_pickle_kills_the_process(tmp_path: Path) -> None:
    """A pickle that ends the process at once is recorded before it is loaded."""
    code = """
        import os, pickle, joblib
        class Kill:
            def __reduce__(self): return os._exit, (3,)
        data = pickle.dumps(Kill())
        pickle.loads(data)
    """
    done = python(["-c", textwrap.dedent(code)], environment(tmp_path))
    assert done.returncode == 3
    (record,) = of("audit.runtime.deserialized", records(tmp_path))
    assert record["audit.runtime.detail"] == "posix._exit"


def test_breakpoint_is_a_session_of_pdb(tmp_path: Path) -> None:
    """From the breakpoint to the continue command, recorded with the program's line."""
    script = tmp_path / "job.py"
    script.write_text(f"{TRAINS}x = 42\nbreakpoint()\nprint('went on')\n")
    done = python([str(script)], environment(tmp_path / "state"), "p x\nc\n")
    assert "42" in done.stdout
    assert "went on" in done.stdout
    state = tmp_path / "state"
    assert sessions(state) == [("started", "pdb", "builtins.breakpoint"), ("ended", "pdb", "")]
    begun = of("audit.debug.started", records(state))[0]
    assert (begun["code.file.path"], begun["code.line.number"]) == (str(script), 4)
    assert of("audit.debug.ended", records(state))[0]["event.duration"] > 0


def test_script_run_by_pdb(tmp_path: Path) -> None:
    """A debugger that started before any library is detected, and recorded when the trail starts."""
    script = tmp_path / "job.py"
    script.write_text(TRAINS)
    python(["-m", "pdb", str(script)], environment(tmp_path / "state"), "c\nq\n")
    told = sessions(tmp_path / "state")
    assert told[:2] == [("started", "pdb", "sys.settrace"), ("ended", "pdb", "")]
    assert {tool for _, tool, _ in told} == {"pdb"}


def test_interactive_interpreter_lasts_until_the_end(tmp_path: Path) -> None:
    """``python -i`` after a job is a session that ends with the process."""
    done = python(["-i", "-c", TRAINS], environment(tmp_path), "6 * 7\n")
    assert "42" in done.stdout
    assert sessions(tmp_path) == [
        ("started", "python", "cpython.run_interactivehook"),
        ("ended", "python", ""),
    ]
    assert of("audit.debug.ended", records(tmp_path))[0]["event.reason"] == "the process ended"


def test_interpreter_that_becomes_a_machine_learner(tmp_path: Path) -> None:
    """A prompt that started before any library is recorded when the first model is trained."""
    python(["-i"], environment(tmp_path), TRAINS)
    assert sessions(tmp_path)[0][:2] == ("started", "python")


def test_debugpy_that_listens(tmp_path: Path) -> None:
    """Its import is recorded with the line; the process ends normally, although debugpy traces mlaudit's threads."""
    script = tmp_path / "job.py"
    script.write_text(f"{TRAINS}import debugpy\ndebugpy.listen(('127.0.0.1', 0))\nprint('listens')\n")
    output = tmp_path / "output.txt"
    with output.open("w") as file:  # its adapter keeps the file open, as it would a pipe
        code = subprocess.run(
            [sys.executable, str(script)],
            env=environment(tmp_path / "state"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        ).returncode
    assert code == 0, output.read_text()
    assert "listens" in output.read_text()
    assert sessions(tmp_path / "state") == [("started", "debugpy", "import"), ("ended", "debugpy", "")]
    assert of("audit.debug.started", records(tmp_path / "state"))[0]["code.line.number"] == 3


def test_debugging_alone_begins_no_trail(tmp_path: Path) -> None:
    """A process that imports a hooked library without using it starts no trail when debugged or failing."""
    code = """
        import joblib, logging, subprocess
        breakpoint()
        subprocess.run(["true"])
        logging.getLogger("x").error("x", exc_info=ValueError("x"))
    """
    done = python(["-c", textwrap.dedent(code)], environment(tmp_path), "c\n")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_audit_hook_lets_children_live(tmp_path: Path) -> None:
    """Threads, forks and workers of a job work as before, each process with its own trail, and none is a restart."""
    code = """
        import os, pickle, threading, multiprocessing
        from sklearn.linear_model import LogisticRegression as L
        def work(number):
            L().fit([[0.0], [1.0]], [0, 1])
            return number * 2
        if __name__ == "__main__":
            work(0)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(sum(pool.map(work, range(8))))
            threads = [threading.Thread(target=pickle.loads, args=(pickle.dumps(L()),)) for _ in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
    """
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(code))
    done = python([str(script)], environment(tmp_path / "state"))
    assert done.stdout == "56\n", done.stderr
    found = records(tmp_path / "state")
    assert {kind for kind, _ in starts(tmp_path / "state")} == {"first", "beside"}
    assert of("audit.runtime.deserialized", found) == []
    assert of("audit.pipeline.failure", found) == []


def test_update_between_two_starts_is_told(tmp_path: Path) -> None:
    """A package that appears between two runs is recorded as added, by name and version."""
    site = tmp_path / "site"
    env = environment(tmp_path / "state", PYTHONPATH=str(site))
    python(["-c", TRAINS], env)
    (site / "torchlike-2.9.0.dist-info").mkdir(parents=True)
    python(["-c", TRAINS], env)
    (record,) = of("audit.environment.changed", records(tmp_path / "state"))
    assert record["audit.environment.added"] == ["torchlike 2.9.0"]
