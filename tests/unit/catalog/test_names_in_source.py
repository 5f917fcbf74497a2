"""Every dotted name in the source is in the catalog, or in a list of exceptions here.

A misspelt field is a value that no search finds; a misspelt kind is a record that is refused. Both look right.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import opentelemetry.semconv._incubating.attributes as otel_attributes
import opentelemetry.semconv.attributes as otel_stable_attributes
import pytest

import mlaudit
from mlaudit.capture.telemetry import guardrails
from mlaudit.catalog.names import FIELD_TYPES, KINDS, kind_of
from mlaudit.pipeline import metrics
from mlaudit.verify.proof import finding_codes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SOURCE: Final = Path(mlaudit.__file__).parent
#: The generated module is the one place where kinds are written out.
GENERATED: Final = "catalog.names"
CATALOG: Final = FIELD_TYPES.keys() | KINDS.keys()
ROOTS: Final = frozenset(name.partition(".")[0] for name in CATALOG if "." in name)

_DOTTED: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+\.?")
_IN_TEXT: Final = re.compile(
    rf"(?<![\w./-])(?:{'|'.join(sorted(ROOTS))})(?:\.[a-z0-9_]+)*(?:\.[a-z0-9_*]+)(?![\w(/-])"
)


def _with_one_less(name: str) -> set[str]:
    """The name, and it without one of its letters: two names have one of these in common when a slip lies between."""
    return {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}


NEARLY: Final = frozenset(one for name in CATALOG if "." in name for one in _with_one_less(name))


def _constants(module: ModuleType) -> Iterator[str]:
    return (value for name, value in vars(module).items() if name.isupper() and isinstance(value, str))


def _semantic_conventions() -> Iterator[str]:
    for package in (otel_attributes, otel_stable_attributes):
        for one in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield from _constants(import_module(one.name))


#: OpenTelemetry's own attributes are known where telemetry of others is read or a resource is named, and nowhere else:
#: ECS says some of them in another way (container.image.tag), and a record says them like ECS.
OTEL: Final = frozenset(_semantic_conventions())
READS_OTEL: Final = frozenset(
    {
        "capture.data.data_spans",
        "capture.process.container",
        "capture.telemetry.logs",
        "pipeline.backend",
        "settings.variables",
        "verify.repair.originals",
    }
)
#: The attribute of a record in OTLP that is no field of its body: the hash of the body cannot stand in it.
HASH: Final = "audit.integrity.value"
SPEAKS_OTLP: Final = re.compile(r"pipeline\.stream|verify\..*")
#: What else has dotted names, by the module that may say them.
ELSEWHERE: Final = {
    # What providers call a guardrail and its judgement: no convention has these names yet.
    "capture.telemetry.guardrails": frozenset({*guardrails.NAMES, *guardrails.DECISIONS}),
    # The audit's own metrics (docs/operations.md) and the attributes of their points.
    "pipeline.metrics": frozenset(
        {one[0] for one in metrics.INSTRUMENTS} | {metrics.DURATION[0], metrics.ADOPTED, metrics.DROP_REASON}
    ),
    # Codes of findings (docs/verify.md): "source.torn" is not about a network source.
    "verify.proof.finding_codes": frozenset(_constants(finding_codes)),
    # Types of messages of ASGI 3.0.
    "capture.web.asgi_exchange": frozenset(
        {
            "http.disconnect",
            "http.request",
            "http.response.body",
            "http.response.pathsend",
            "http.response.start",
            "http.response.zerocopysend",
        }
    ),
    "capture.web.asgi_refusal": frozenset({"http.response.body", "http.response.start"}),
    # Keys under which capture leaves something for itself in a scope of ASGI, an environ of WSGI.
    "capture.web.http_exchange": frozenset({"mlaudit.error"}),
    "capture.web.wsgi_exchange": frozenset({"mlaudit.scope"}),
    # The program's name on Windows.
    "capture.instrumentor": frozenset({"mlaudit.exe"}),
    # A setting of Elasticsearch, and files of the local stack.
    "stack.elasticsearch_node": frozenset({"http.port", "http.crt", "http.key"}),
    "stack.stack_layout": frozenset({"client.key", "client.pem"}),
}


def faults(source: str, module: str) -> list[str]:
    """What is wrong with the names in a module's source; ``module`` is its name without the leading ``mlaudit.``."""
    tree = ast.parse(source)
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            found += (f"{node.lineno}: {fault}" for fault in _faults_of(text, module))
        elif isinstance(node, ast.Dict):
            keys = {
                key.value: key.lineno
                for key in node.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
            if keys.keys() & FIELD_TYPES.keys():
                found += (
                    f"{line}: {key} stands among fields and is none"
                    for key, line in keys.items()
                    if _DOTTED.fullmatch(key)
                    and not _is_known(key, module)
                    and not any(_faults_of(key, module))
                )
    return found


def _faults_of(text: str, module: str) -> Iterator[str]:
    if not _DOTTED.fullmatch(text):
        for name in _IN_TEXT.findall(text):
            if not _is_known(name.removesuffix("*"), module) and not _is_known(f"{name}.", module):
                yield f"{name}, in a text, is no name of the catalog"
    elif text in KINDS:
        yield f"{text} is a kind: import its constant from mlaudit.catalog.names"
    elif _is_known(text, module):
        return
    elif text.partition(".")[0] in ROOTS:
        yield f"{text} is no name of the catalog"
    elif not NEARLY.isdisjoint(_with_one_less(text)):
        yield f"{text} is nearly a name of the catalog"


def _is_known(name: str, module: str) -> bool:
    if name in FIELD_TYPES or kind_of(name) is not None or name in ELSEWHERE.get(module, ()):
        return True
    if name.endswith("."):
        return any(known.startswith(name) for known in CATALOG) or _is_module(name[:-1])
    if name in OTEL and module in READS_OTEL:
        return True
    return (name == HASH and SPEAKS_OTLP.fullmatch(module) is not None) or _is_module(name)


def _is_module(name: str) -> bool:
    """Whether it is a module of the standard library or of this package, or a public name of it."""
    root, _, rest = name.partition(".")
    if root == "mlaudit":
        path = SOURCE.joinpath(*rest.split("."))
        return path.is_dir() or path.with_suffix(".py").is_file() or rest in mlaudit.__all__
    try:
        return root in sys.stdlib_module_names and importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield ".".join(path.relative_to(SOURCE).with_suffix("").parts), path


def test_every_dotted_name_in_the_source_is_known() -> None:
    """No module names a field or kind that is not in the catalog, nor writes a kind out a second time."""
    found = [
        f"{path.relative_to(SOURCE)}:{fault}"
        for module, path in _modules()
        if module != GENERATED
        for fault in faults(path.read_text(encoding="utf-8"), module)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'fields["ml.modle.name"] = name',
        'fields.get("ml.model.naem")',
        'f(kind="audit.ml.predicton")',
        'fields = {"mll.model.name": name}',
        'kind = "adit.ml.prediction"',
        '_PLACE = "audit.sequnce."',
        "body = b'{\"audit.sequence.nummer\":1}'",
        'query = f"event.outcom:failure and user.id:{actor}"',
        '"""Sets ml.model.vresion."""',
        'fields = {"ml.model.name": name, "foo.bar": 1}',
        'fields = {"container.image.tags": []}',
        'fields["http.response.body"] = ""',
        'fields["source.torn"] = True',
        'fields["audit.integrity.value"] = ""',
        'logger = "mlaudit.pipelines"',
        'module = "http.clinet"',
        '"The kinds of ml.dateset.*"',
    ],
)
def test_misspelt_name_is_found(source: str) -> None:
    """A name that is no field, no kind, or a name of something else in the wrong module does not pass."""
    assert len(faults(source, "capture.example")) == 1


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"audit.app.*"}))
def test_kind_that_is_written_out_is_found(kind: str) -> None:
    """A kind is written once, in the generated module; other modules import its constant."""
    (fault,) = faults(f"EVENT = {kind!r}", "capture.example")
    assert "import its constant" in fault


@pytest.mark.parametrize(
    "source",
    [
        'fields = {"ml.model.name": name, "message": text, "@timestamp": now}',
        'record("audit.app.report.exported")',
        'own = kind.startswith(("audit.stream.", "audit.policy."))',
        '"""Everything in ml.dataset.*, written by capture.libraries.torch; see docs/events.md."""',
        'path = f"ml.{part}.name"',
        'import_module("http.client")',
        'getLogger("mlaudit.pipeline.pipeline")',
        'open("model.json")',
    ],
)
def test_right_name_passes(source: str) -> None:
    """A field, a kind of the application's own, a prefix, a module and the name of a file are no faults."""
    assert faults(source, "capture.example") == []


def test_every_exception_is_needed() -> None:
    """A module that may say a foreign name says it: the lists hold nothing that is gone."""
    texts = {module: path.read_text(encoding="utf-8") for module, path in _modules()}
    unused = {
        f"{module}: {name}"
        for module, names in ELSEWHERE.items()
        for name in names
        if f'"{name}"' not in texts[module]
    }
    assert unused == set()
    assert all(any(f'"{name}"' in texts[module] for name in OTEL - CATALOG) for module in READS_OTEL)
