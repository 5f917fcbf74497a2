"""What ``mlaudit`` exports: that it is all there, cheap, typed, described, and that documents show nothing else."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import mlaudit
import mlaudit.ipython
import mlaudit.testing
from mlaudit import errors
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PUBLIC_MODULES: Final = ("mlaudit.ipython", "mlaudit.testing")
REFUSING: Final = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: all, level: full, on_failure: refuse}]
"""
#: These start the local stack of a checkout and run the examples against it; the examples themselves are the programs.
RUNNERS: Final = frozenset(
    {
        "examples/__init__.py",
        "examples/__main__.py",
        "examples/plays.py",
        "examples/programs.py",
        *(f"examples/demo/{name}.py" for name in ("__init__", "__main__", "scene", "show", "store")),
    }
)

_FENCE: Final = re.compile(r"^```(?:python|py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MENTION: Final = re.compile(r"(?<![\w./-])mlaudit(?:\.[A-Za-z_]\w*)+(?![\w/])")


def _run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_but_the_standard_library() -> None:
    """A service that imports mlaudit and never uses it pays for nothing."""
    program = (
        "import sys; before = set(sys.modules); import mlaudit; "
        "print(*sorted(name for name in set(sys.modules) - before "
        "if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    # Without site no .pth file and no other package has a part in it.
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); " + program
    assert _run(program, "-S").split() == ["mlaudit", "mlaudit._version"]


@pytest.mark.parametrize("options", [(), ("-O",), ("-OO",)])
def test_star_import_gives_every_public_name(options: tuple[str, ...]) -> None:
    """``from mlaudit import *`` works, and so does Python without assertions and docstrings."""
    found = _run(
        "import json; before = set(globals()); from mlaudit import *; "
        "print(json.dumps(sorted(set(globals()) - before - {'before'})))",
        *options,
    )
    assert json.loads(found) == sorted(mlaudit.__all__)


def test_every_public_name_is_there() -> None:
    """Each exported name leads to an object, the same each time, and is shown by dir()."""
    assert dir(mlaudit) == sorted(mlaudit.__all__)
    for name in mlaudit.__all__:
        assert getattr(mlaudit, name) is getattr(mlaudit, name)
        assert getattr(mlaudit, name).__doc__


def test_no_public_name_is_a_modules() -> None:
    """No submodule has the name of an export: importing it would put the module in the export's place."""
    modules = {path.stem for path in (ROOT / "src/mlaudit").iterdir()}
    assert modules.isdisjoint(mlaudit.__all__)


@pytest.mark.parametrize("use", ["callable(mlaudit.record)", "'record' in dir(mlaudit)"])
@pytest.mark.parametrize(
    "first",
    [
        "import mlaudit.records.build",
        "import mlaudit.records, mlaudit.records.fit, mlaudit.event, mlaudit.api",
        "from mlaudit.records import encode",
        "import mlaudit; mlaudit.record; import mlaudit.records.build",
        "from mlaudit import record; import mlaudit.records.build; assert record is mlaudit.record",
    ],
)
def test_record_is_the_function_after_any_import(first: str, use: str) -> None:
    """Whatever private module somebody imports first, ``mlaudit.record`` is the function."""
    assert _run(f"{first}\nimport mlaudit\nprint({use})") == "True"


def test_misspelt_name_is_an_error_that_helps() -> None:
    """The error names what is public, and lets Python suggest the name that was meant."""
    program = "import mlaudit; mlaudit.recrod"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "AttributeError: module 'mlaudit' has no attribute 'recrod'" in done.stderr
    assert "AuditRefusedError" in done.stderr
    assert "mlaudit.testing" in done.stderr
    assert "Did you mean: 'record'?" in done.stderr
    with pytest.raises(ImportError, match="recrod"):
        exec("from mlaudit import recrod")
    assert not hasattr(mlaudit, "__wrapped__")


def test_reload_keeps_the_classes() -> None:
    """Reloading mlaudit, as notebooks do, does not make a second AuditRefusedError or Actor."""
    program = (
        "import importlib, mlaudit; before = mlaudit.Actor('a'), mlaudit.AuditRefusedError; "
        "importlib.reload(mlaudit); from mlaudit import Actor, AuditRefusedError; "
        "print(isinstance(before[0], Actor), AuditRefusedError is before[1], Actor('a') == before[0])"
    )
    assert _run(program) == "True True True"


@pytest.mark.parametrize("first", ["", "mlaudit.record"])
def test_public_name_can_be_mocked(first: str) -> None:
    """A service's test may put its own function in the place of a name, used before or not, and gets it back after."""
    program = f"""
import mlaudit, pytest
from unittest import mock
{first}
with mock.patch("mlaudit.record", return_value="id"):
    assert mlaudit.record("audit.app.x") == "id"
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(mlaudit, "record", lambda kind: "mine")
    assert mlaudit.record("audit.app.x") == "mine"
    patch.delattr(mlaudit, "record")
    assert callable(mlaudit.record)
from mlaudit.api import record
print(mlaudit.record is record)
"""
    assert _run(program) == "True"


def test_threads_that_import_at_once_get_the_same_objects() -> None:
    """Threads that ask for the first time together wait for one import, and see one class each."""
    program = """
import threading, mlaudit
start, seen = threading.Barrier(16), []
def ask(number):
    start.wait()
    names = sorted(mlaudit.__all__, reverse=number % 2)
    seen.append({name: id(getattr(mlaudit, name)) for name in names})
threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
print(len(seen), len({tuple(sorted(found.items())) for found in seen}))
"""
    assert _run(program) == "16 1"


def test_refusal_is_the_class_that_a_service_catches() -> None:
    """What the pipeline raises is ``mlaudit.AuditRefusedError``, and a ``mlaudit.MlauditError``."""
    with capture(policy=REFUSING, instrument=False) as log:
        log.fail()
        with pytest.raises(mlaudit.AuditRefusedError) as caught:
            mlaudit.record("audit.app.report.exported")
        log.heal()
    assert type(caught.value) is mlaudit.AuditRefusedError
    assert isinstance(caught.value, mlaudit.MlauditError)


def _errors() -> Iterator[errors.MlauditError]:
    arguments: dict[str, tuple[Any, ...]] = {
        "SettingsError": (["MLAUDIT_X: wrong", "MLAUDIT_Y: wrong"],),
        "PolicyError": ("policy.yaml", ["line 3: wrong"]),
        "CatalogError": (["wrong"],),
        "UnconfirmedError": (),
    }
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.MlauditError):
            yield kind(*arguments.get(name, (f"why {name}",)))


@pytest.mark.parametrize("error", list(_errors()), ids=lambda error: type(error).__name__)
def test_error_survives_pickle_and_copy(error: errors.MlauditError) -> None:
    """A worker's error reaches its parent as it was: class, text, faults and notes; a pool would wait for ever else."""
    error.add_note("in worker 3")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_values_survive_pickle_copy_and_subclass() -> None:
    """Actors, targets and keys are values: copied and pickled they are equal, and a subclass is one of them."""

    class Employee(mlaudit.Actor):
        """An actor of a service's own."""

    for value in (
        mlaudit.Actor("alice", name="Alice", roles=("analyst",)),
        mlaudit.Target("model", "fraud@3"),
        mlaudit.VerifyingKey("acme", bytes(32)),
    ):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
        assert len({value, copy.copy(value)}) == 1
    with capture(instrument=False) as log:
        mlaudit.record("audit.app.report.exported", actor=Employee("bob"))
    assert isinstance(Employee("bob"), mlaudit.Actor)
    assert len(log.of("audit.app.report.exported")) == 1


def test_type_checkers_see_the_types() -> None:
    """The package says that it is typed, and make check runs mypy --strict over a service that uses all of it."""
    assert (ROOT / "src/mlaudit/py.typed").is_file()
    checker = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    consumer = ROOT / "tests/unit/public_api_consumer.py"
    assert checker["strict"]
    assert str(consumer.relative_to(ROOT)) in checker["files"]
    text = consumer.read_text(encoding="utf-8")
    assert [name for name in mlaudit.__all__ if not re.search(rf"\b{name}\b", text)] == []


def _described() -> Iterator[Any]:
    """Every public function and class, with its public methods."""
    for name in sorted(mlaudit.__all__):
        value = getattr(mlaudit, name)
        if callable(value):
            yield pytest.param(value, (), id=name)
        if isinstance(value, type) and not issubclass(value, Exception):
            for method, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and (
                    not method.startswith("_") or (method in ("__init__", "__call__") and function.__doc__)
                ):
                    yield pytest.param(function, (value,), id=f"{name}.{method}")


@pytest.mark.parametrize(("value", "owner"), list(_described()))
def test_public_docstring_says_each_argument(value: Any, owner: tuple[type, ...]) -> None:
    """A public function, class or method has a docstring, which describes each of its arguments by name."""
    text = f"{value.__doc__ or ''}\n{owner[0].__doc__ if owner and value.__name__ == '__init__' else ''}"
    assert len(text.strip()) > 20
    if isinstance(value, type):
        return
    for name, parameter in inspect.signature(value).parameters.items():
        if name not in ("self", "cls"):
            label = f"**{name}" if parameter.kind is parameter.VAR_KEYWORD else name
            assert re.search(rf"^\s*(?:[\w, ]+, )?{re.escape(label)}(?:, [\w, ]+)?: ", text, re.MULTILINE), (
                label
            )


def test_public_docstrings_say_shapes_units_and_errors() -> None:
    """Sizes, formats and errors stand where a caller looks for them."""
    for value, words in (
        (mlaudit.record, ("Returns:", "None when", "Raises:", "AuditRefusedError")),
        (mlaudit.training_run, ("Raises:", "AuditRefusedError")),
        (mlaudit.training_run.dataset, ("shape (rows, columns)", "SHA-256")),
        (mlaudit.training_run.log_metric, ("unit",)),
        (mlaudit.training_run.artifact, ("Raises:", "AuditRefusedError")),
        (mlaudit.purpose.__init__, ("256 characters",)),
        (mlaudit.Signer.sign, ("64 bytes", "Raises:", "SignerError")),
        (mlaudit.Signer, ("5 seconds",)),
        (mlaudit.VerifyingKey, ("32 bytes", "RFC 3339", "UTC")),
        (mlaudit.VerifyingKey.decode, ("Raises:", "MlauditError")),
        (mlaudit.AsgiMiddleware.__call__, ("Raises:", "AuditRefusedError")),
        (mlaudit.WsgiMiddleware.__call__, ("Returns:", "Raises:", "AuditRefusedError")),
    ):
        text = inspect.getdoc(value) or ""
        assert [word for word in words if word not in text] == [], value


def test_page_has_every_public_name() -> None:
    """docs/api.md describes each export and each public module, and says that the rest is private."""
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for name in (*mlaudit.__all__, *PUBLIC_MODULES):
        assert name.startswith("__") or f"`{name}`" in page or f"mlaudit.{name}(" in page, name
    assert "private" in page
    assert "private" in (mlaudit.__doc__ or "")


def _documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _imports(source: str) -> Iterator[str]:
    """The dotted names of mlaudit that a program imports or reaches."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "mlaudit":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "mlaudit")
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "mlaudit"
        ):
            yield f"mlaudit.{node.attr}"


def _is_public(name: str) -> bool:
    if name == "mlaudit" or name in PUBLIC_MODULES:
        return True
    module, _, rest = name.rpartition(".")
    if module in PUBLIC_MODULES:
        return not rest.startswith("_") and hasattr(importlib.import_module(module), rest)
    return module == "mlaudit" and rest in mlaudit.__all__


def test_documents_and_examples_import_only_public_names() -> None:
    """No page, notebook or example program sends anybody into a private module."""
    found: set[tuple[str, str]] = set()
    programs = 0
    for page in _documents():
        for block in _FENCE.findall(page.read_text(encoding="utf-8")):
            programs += 1
            found |= {(page.name, name) for name in _imports(block) if not _is_public(name)}
    for path in sorted((ROOT / "examples").rglob("*")):
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
            sources = [re.sub(r"^%load_ext ", "import ", source, flags=re.MULTILINE) for source in sources]
        elif path.suffix == ".py" and str(path.relative_to(ROOT)) not in RUNNERS:
            sources = [path.read_text(encoding="utf-8")]
        else:
            continue
        programs += len(sources)
        found |= {
            (path.name, name) for source in sources for name in _imports(source) if not _is_public(name)
        }
    assert found == set()
    assert programs > 15
    assert all((ROOT / name).is_file() for name in RUNNERS)


def test_documents_name_only_public_names() -> None:
    """What a page calls ``mlaudit.something`` is public, a field of the catalog, or the file of that name."""
    from mlaudit.catalog.names import FIELD_TYPES, KINDS

    fields = FIELD_TYPES.keys() | {kind.dataset for kind in KINDS.values()}
    found = set()
    for page in _documents():
        text = page.read_text(encoding="utf-8")
        for name in _MENTION.findall(text):
            groups = any(field.startswith(f"{name}.") for field in fields)
            if not (_is_public(name) or name in fields or groups):
                found.add((page.name, name))
    assert found == set()


@pytest.mark.parametrize(
    "program",
    [
        "from mlaudit.errors import AuditRefusedError",
        "import mlaudit.pipeline.pipeline",
        "import mlaudit\nmlaudit.recrod('x')",
        "from mlaudit import Pipeline",
        "from mlaudit.testing import _MemoryBackend",
    ],
)
def test_private_import_would_be_found(program: str) -> None:
    """A page that showed this would fail."""
    assert not all(map(_is_public, _imports(program)))
