"""Routes: the kind of a request, and the model that its path names."""

from __future__ import annotations

import pytest

from mlaudit.errors import PolicyError
from mlaudit.policy.evaluate import CompiledPolicy, compile_policy
from mlaudit.policy.load import load_policy, parse_policy

PREDICTION = "audit.ml.prediction"


@pytest.fixture(scope="module")
def built_in() -> CompiledPolicy:
    """The built-in policy."""
    return compile_policy(load_policy(None), b"k" * 32)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/credit/infer", ("credit", "")),
        ("/v2/models/credit/versions/3/infer", ("credit", "3")),
        ("/v2/models/credit/versions/3/infer/", ("credit", "3")),
        ("/v2/models/llama/generate_stream", ("llama", "")),
        ("/v1/models/credit:predict", ("credit", "")),
        ("/v1/models/credit/versions/3:classify", ("credit", "3")),
        ("/v1/models/credit/labels/stable:predict", ("credit", "")),
        ("/seldon/team/credit/api/v1.0/predictions", ("credit", "")),
        ("/predictions/credit", ("credit", "")),
        ("/predictions/credit/1.0", ("credit", "1.0")),
        ("/invocations", ("", "")),
        ("/v1/chat/completions", ("", "")),
        ("/v1/completions", ("", "")),
        ("/v1/embeddings", ("", "")),
    ],
)
def test_routes_of_model_servers_are_predictions_of_the_model_in_the_path(
    built_in: CompiledPolicy, path: str, model: tuple[str, str]
) -> None:
    """KServe, Triton, TensorFlow Serving, Seldon, TorchServe, MLflow and OpenAI's protocol."""
    assert built_in.route_kind("POST", path) == PREDICTION
    assert built_in.route_model("POST", path) == model


@pytest.mark.parametrize(
    "path",
    ["/ping", "/version", "/v2/health/ready", "/v2/models/credit/ready", "/v2/models/c/versions/1/ready"],
)
def test_probes_of_model_servers_are_not_audited(built_in: CompiledPolicy, path: str) -> None:
    """Probes are not audited: they do not show the use of a model."""
    assert built_in.route_kind("GET", path) == ""


def test_other_requests_name_no_model(built_in: CompiledPolicy) -> None:
    """A request for metadata of models is an ordinary request."""
    assert built_in.route_kind("GET", "/v2/models/credit") is None
    assert built_in.route_model("GET", "/v2/models/credit") == ("", "")


def test_other_names_in_braces_are_themselves() -> None:
    """A route may be written as the framework's template."""
    policy = compile_policy(parse_policy(_policy("/items/{id}/{model}"), "policy.yaml"), b"k" * 32)
    assert policy.route_kind("POST", "/items/{id}/{model}") == PREDICTION
    assert policy.route_kind("POST", "/items/7/credit") is None
    assert policy.route_model("POST", "/items/{id}/credit") == ("credit", "")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/{model}/{model}", "expected {model} once in a path, found it 2 times"),
        ("/{version}/predict", "expected {model} beside {version}"),
    ],
)
def test_captures_are_checked(path: str, fault: str) -> None:
    """A path that names a model twice, or a version without a model, is a fault of the policy."""
    with pytest.raises(PolicyError, match=fault.replace("{", r"\{").replace("}", r"\}")):
        parse_policy(_policy(path), "policy.yaml")


def _policy(path: str) -> str:
    return (
        "version: 1\n"
        "revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]\n"
        f'routes: [{{methods: POST, path: "{path}", kind: {PREDICTION}}}]\n'
        "rules: [{name: all, level: metadata}]\n"
    )
