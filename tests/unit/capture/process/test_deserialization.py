"""Unpicklers that are asked for more than data, by the real unpicklers."""

from __future__ import annotations

import contextlib
import enum
import functools
import io
import multiprocessing
import os
import pickle
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlaudit.capture.libraries.joblib import JoblibIntegration
from mlaudit.capture.process import audit_hooks, deserialization
from mlaudit.capture.process.dangerous_names import is_dangerous
from mlaudit.catalog.names import RUNTIME_DESERIALIZED
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIND = RUNTIME_DESERIALIZED
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: x, reason: y, sections: [3]}]
rules:
  - {name: strict, match: {kind: "audit.runtime.*"}, level: metadata, on_failure: refuse}
"""


class Command:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.getenv, ("HOME",)


class Colour(enum.Enum):
    """Data."""

    RED = 1


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, with the hook for unpicklers."""
    with listening() as found:
        yield found


@contextlib.contextmanager
def listening(policy: str | None = None) -> Iterator[AuditLog]:
    """Audits with the hook for unpicklers; it is inert afterwards."""
    deserialization._harmless.clear()
    deserialization._repeats.rest()
    deserialization._budget.rest()
    with capture(policy, instrument=False) as found:
        deserialization.install()
        try:
            yield found
        finally:
            audit_hooks.uninstall()


def in_joblib(folder: Path) -> Any:
    """The object in a file of joblib."""
    joblib.dump(Command(), folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def in_numpy(folder: Path) -> Any:
    """The object in an array of objects."""
    np.save(folder / "rows.npy", np.array([Command()], dtype=object), allow_pickle=True)
    return np.load(folder / "rows.npy", allow_pickle=True)


def in_pandas(folder: Path) -> Any:
    """The object in a file of pandas."""
    pd.to_pickle(Command(), folder / "frame.pkl")
    return pd.read_pickle(folder / "frame.pkl")


def in_pickle(folder: Path) -> Any:
    """The object in bytes, with the C unpickler."""
    return pickle.loads(pickle.dumps(Command()))


def in_python(folder: Path) -> Any:
    """The object in bytes, with the unpickler that is written in Python."""
    return pickle._Unpickler(io.BytesIO(pickle.dumps(Command()))).load()  # type: ignore[attr-defined]


@pytest.mark.parametrize("load", [in_joblib, in_numpy, in_pandas, in_pickle, in_python])
def test_whatever_unpickles_it_is_told(log: AuditLog, tmp_path: Path, load: Callable[[Path], Any]) -> None:
    """pickle, joblib, numpy and pandas: the record names the callable and the program's line that loads."""
    load(tmp_path)
    (record,) = log.of(KIND)
    assert record["audit.runtime.detail"] == "os.getenv"
    assert record["audit.runtime.event"] == "pickle.find_class"
    assert (record["audit.target.type"], record["audit.target.id"]) == ("callable", "os.getenv")
    assert record["code.function.name"] == load.__name__
    assert record["code.file.path"] == __file__
    assert record["audit.guarantee"] == "durable"


def test_file_is_named_where_the_hook_of_the_library_knows_it(log: AuditLog, tmp_path: Path) -> None:
    """``joblib.load`` under audit tells which file it was."""
    joblib.dump(Command(), tmp_path / "model.joblib")
    integration = JoblibIntegration()
    integration.instrument()
    try:
        joblib.load(tmp_path / "model.joblib")
    finally:
        integration.uninstrument()
    assert log.of(KIND)[0]["ml.model.path"] == str(tmp_path / "model.joblib")


def test_honest_models_and_data_are_silent(log: AuditLog, tmp_path: Path) -> None:
    """Estimators, arrays, frames, dates, enumerations and partials of harmless functions name nothing dangerous."""
    model = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=2))
    model.fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2026-01-01", None])})
    moment = datetime(2026, 11, 28, tzinfo=UTC)
    things = {
        "model": model,
        "frame": frame.astype({"b": "category"}),
        "arrays": [np.zeros(3), np.array(["a"]), np.float32(1), np.dtype("f8"), np.random.default_rng(1)],
        "plain": [Colour.RED, moment, Path("/a"), {1, 2}, b"x", slice(1, 2), complex(1, 2), bytearray(b"y")],
        "function": functools.partial(np.clip, a_min=0, a_max=1),
        "error": FileNotFoundError(2, "gone"),
    }
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        pickle.loads(pickle.dumps(things, protocol))
    joblib.dump(things, tmp_path / "honest.joblib", compress=3)
    joblib.load(tmp_path / "honest.joblib")
    np.save(tmp_path / "honest.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.load(tmp_path / "honest.npy", allow_pickle=True)
    assert log.of(KIND) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("__builtin__", "execfile"),
        ("commands", "getoutput"),
        ("importlib", "import_module"),
        ("importlib.util", "find_spec"),
        ("runpy", "run_path"),
        ("socket", "create_connection"),
        ("shutil", "rmtree"),
        ("ctypes", "CDLL"),
        ("sys", "exit"),
        ("pty", "spawn"),
        ("code", "interact"),
        ("webbrowser", "open"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("_operator", "methodcaller"),
        ("pickle", "loads"),
        ("_io", "FileIO"),
        ("cloudpickle.cloudpickle", "_make_function"),
        ("torch.hub", "load"),
        ("a" * 3000, "b"),
        # Through a module to what it has imported.
        ("shelve", "os.system"),
        ("joblib", "os.system"),
        ("not.imported.yet", "os.system"),
        ("json.decoder", "scanner.re.enum.sys.exit"),
        ("joblib", "os"),
        ("functools", "__builtins__"),
        ("collections", "OrderedDict.__init__.__globals__"),
        # Under another module's name.
        ("tempfile", "_shutil"),
        (__name__, "rmtree"),
    ],
)
def test_dangerous_names(module: str, name: str) -> None:
    """Commands, code, files, connections and the ways to reach them are recorded, however they are named."""
    assert is_dangerous(module, name)


rmtree = shutil.rmtree


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy", "dtype"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("sklearn.tree._tree", "Tree"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "_reconstructor"),
        ("builtins", "slice"),
        ("__builtin__", "object"),
        ("collections", "OrderedDict"),
        ("collections", "OrderedDict.fromkeys"),
        ("functools", "partial"),
        ("_codecs", "encode"),
        ("socket", "AddressFamily"),
        ("subprocess", "CalledProcessError"),
        ("os", "stat_result"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("code.features", "Scaler"),
        ("my.profile", "Profile"),
    ],
)
def test_honest_names(module: str, name: str) -> None:
    """What puts data together is silent, and so are exceptions, enumerations and tuples of dangerous modules."""
    assert subprocess.CalledProcessError  # imported: looked at
    assert not is_dangerous(module, name)


def test_pickle_that_is_loaded_again_and_again_is_told_once(log: AuditLog) -> None:
    """A thousand loads at one place make one record."""
    data = pickle.dumps(Command())
    for _ in range(1000):
        pickle.loads(data)
    assert len(log.of(KIND)) == 1


def test_pickle_of_a_thousand_names_is_bounded(log: AuditLog) -> None:
    """Whoever makes a pickle chooses how many names are in it, and how long; the last one told says that it is."""
    data = b"".join(b"cos.x%d%s\n__globals__\n" % (number, b"y" * 10_000) for number in range(200))
    for line in data.split(b"\n__globals__\n")[:-1]:
        with contextlib.suppress(Exception):
            pickle.loads(line + b"\n__globals__\n.")
    recorded = log.of(KIND)
    assert len(recorded) == deserialization.MAX_DIFFERENT
    assert "the last of 50" in recorded[-1]["event.reason"]
    assert all(len(record["audit.runtime.detail"]) <= deserialization.MAX_NAME for record in recorded)
    assert len(str(deserialization._repeats._windows)) < 100_000
    assert deserialization._harmless == set()


def test_name_of_a_module_that_comes_later_is_judged_again(
    log: AuditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its import only the name can be judged; afterwards where the object comes from."""
    (tmp_path / "shop_tools.py").write_text("from os import getenv as read\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    data = b"cshop_tools\nread\n(S'HOME'\ntR."
    for _ in range(2):
        pickle.loads(data)
    assert [record["audit.runtime.detail"] for record in log.of(KIND)] == ["shop_tools.read"]


def test_what_processes_of_a_program_send_each_other_is_silent(log: AuditLog) -> None:
    """The sender of a pipe of multiprocessing can run what it likes anyhow."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.send(Command())
    receiver.recv()
    assert log.of(KIND) == []


def test_refused_is_what_cannot_be_recorded() -> None:
    """With ``on_failure: refuse`` the unpickler does not get the callable; the load fails with the refusal."""
    with listening(REFUSE) as log:
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            pickle.loads(pickle.dumps(Command()))


def test_broken_judgement_does_not_break_the_load(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the hook is recorded, and the object is there."""
    monkeypatch.setattr(deserialization, "is_dangerous", lambda *_: 1 / 0)
    assert pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]
