"""Calls of language models by the real OpenAI client, as OpenTelemetry's instrumentation records them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.instrumentation.openai_v2")
import openai
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from mlaudit.capture.telemetry import guardrails, spans
from mlaudit.capture.telemetry.guardrails import guardrail_of
from mlaudit.capture.telemetry.providers import attach_to_tracer_provider
from mlaudit.testing import AuditLog, capture

SECRET = "my account number is 4711"
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
TOOL_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "lookup_rate", "arguments": f'{{"q": "{SECRET}"}}'},
}
ENDS = {"blocked": "content_filter", "tool": "tool_calls"}


class StandIn(BaseHTTPRequestHandler):
    """A server that speaks as much of OpenAI's protocol as the client needs."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = asked["model"]
        if model == "busy":
            self._send(429, {"error": {"message": SECRET, "type": "rate_limit", "code": "slow_down"}})
        elif self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            usage = {"prompt_tokens": 12, "total_tokens": 12}
            self._send(200, {"object": "list", "data": data, "model": "m-2026", "usage": usage})
        elif asked.get("stream"):
            self._stream(model)
        else:
            message: dict[str, Any] = {"role": "assistant", "content": SECRET}
            if model == "tool":
                message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
            choice = {"index": 0, "message": message, "finish_reason": ENDS.get(model, "stop")}
            self._send(200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})

    def _stream(self, model: str) -> None:
        head = _head("chat.completion.chunk")
        pieces: list[dict[str, Any]] = [
            {
                "choices": [
                    {"index": 0, "delta": {"role": "assistant", "content": SECRET}, "finish_reason": None}
                ]
            },
            {"choices": [{"index": 0, "delta": {}, "finish_reason": ENDS.get(model, "stop")}]},
            {"choices": [], "usage": USAGE},
        ]
        lines = [f"data: {json.dumps({**head, **piece})}\n\n" for piece in pieces]
        self._send(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream")

    def _send(self, status: int, content: Any, kind: str = "application/json") -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m-2026"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the stand-in listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Audit under the built-in policy."""
    with capture(instrument=False) as running:
        yield running


@pytest.fixture(params=["", "gen_ai_latest_experimental"], ids=["stable", "latest"])
def client(
    request: pytest.FixtureRequest, url: str, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> Iterator[openai.OpenAI]:
    """An instrumented client, under either version of the conventions, that tells prompts as far as it can.

    Nothing is sampled.
    """
    from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability

    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)
    wanted = "span_and_event" if request.param else "true"
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", wanted)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    provider = TracerProvider(sampler=ALWAYS_OFF)
    attach_to_tracer_provider(provider)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield openai.OpenAI(api_key="sk-secret", base_url=url, max_retries=0)
    instrumentor.uninstrument()


def ask(client: openai.OpenAI, model: str, **more: Any) -> Any:
    """One chat."""
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": SECRET}], temperature=0.5, **more
    )


def only(log: AuditLog) -> dict[str, Any]:
    """The one record of a call; nothing of it is what was said."""
    assert SECRET not in str(log.records)
    assert "sk-secret" not in str(log.records)
    (record,) = log.of("audit.ml.prediction")
    return record


def test_a_chat_is_a_prediction_with_its_tokens(client: openai.OpenAI, log: AuditLog) -> None:
    """Models, tokens, why it ended and provider; never prompt or answer, even where the span has them."""
    assert ask(client, "m").choices[0].message.content == SECRET
    record = only(log)
    assert record["gen_ai.operation.name"] == "chat"
    assert record["gen_ai.provider.name"] == "openai"
    assert (record["gen_ai.request.model"], record["gen_ai.response.model"]) == ("m", "m-2026")
    assert (record["gen_ai.usage.input_tokens"], record["gen_ai.usage.output_tokens"]) == (12, 5)
    assert record["gen_ai.response.finish_reasons"] == ["stop"]
    assert record["gen_ai.response.id"] == "chatcmpl-1"
    assert (record["audit.target.type"], record["audit.target.id"]) == ("model", "m")
    assert record["event.outcome"] == "success"
    assert record["event.duration"] > 0
    assert "ml.guardrail.outcome" not in record


def test_a_stream_is_a_prediction_when_it_is_over(client: openai.OpenAI, log: AuditLog) -> None:
    """With the tokens that only its last piece contains."""
    stream = ask(client, "m", stream=True, stream_options={"include_usage": True})
    assert not log.of("audit.ml.prediction")
    assert len(list(stream)) == 3
    record = only(log)
    assert (record["gen_ai.usage.input_tokens"], record["gen_ai.usage.output_tokens"]) == (12, 5)
    assert record["gen_ai.response.model"] == "m-2026"


def test_embeddings_are_a_prediction(client: openai.OpenAI, log: AuditLog) -> None:
    """With what went in."""
    client.embeddings.create(model="e", input=SECRET)
    record = only(log)
    assert (record["gen_ai.operation.name"], record["gen_ai.request.model"]) == ("embeddings", "e")
    assert record["gen_ai.usage.input_tokens"] == 12


def test_an_error_is_a_failed_prediction(client: openai.OpenAI, log: AuditLog) -> None:
    """Status 429: the class of the error, not its text."""
    with pytest.raises(openai.RateLimitError):
        ask(client, "busy")
    record = only(log)
    assert (record["event.outcome"], record["error.type"]) == ("failure", "RateLimitError")
    assert record["gen_ai.request.model"] == "busy"


def test_what_the_providers_filter_stopped_is_told(client: openai.OpenAI, log: AuditLog) -> None:
    """A finish reason of a filter is a guardrail's judgement."""
    ask(client, "blocked")
    record = only(log)
    assert (record["ml.guardrail.outcome"], record["ml.guardrail.name"]) == ("blocked", "content_filter")


def test_a_tool_call_says_that_it_is_one(client: openai.OpenAI, log: AuditLog) -> None:
    """Without its arguments."""
    ask(client, "tool")
    assert only(log)["gen_ai.response.finish_reasons"] == ["tool_calls"]


def spanned(log: AuditLog, attributes: dict[str, Any], *events: dict[str, Any]) -> dict[str, Any]:
    """The record of a span of another instrumentation."""
    provider = TracerProvider(sampler=ALWAYS_OFF)
    attach_to_tracer_provider(provider)
    with provider.get_tracer("agents").start_as_current_span("work", attributes=attributes) as span:
        for event in events:
            span.add_event("judged", event)
    return only(log)


def test_tools_agents_and_conversations_are_told(log: AuditLog) -> None:
    """A tool that ran, in whose conversation, for which agent; neither its arguments nor its result."""
    record = spanned(
        log,
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup_rate",
            "gen_ai.agent.name": "loan assistant",
            "gen_ai.conversation.id": "conv-1",
            "gen_ai.tool.call.arguments": SECRET,
            "gen_ai.tool.call.result": SECRET,
        },
    )
    assert record["gen_ai.tool.name"] == "lookup_rate"
    assert record["gen_ai.agent.name"] == "loan assistant"
    assert record["gen_ai.conversation.id"] == "conv-1"


def test_the_old_names_are_understood(log: AuditLog) -> None:
    """Instrumentations from before the conventions settled."""
    record = spanned(
        log,
        {
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "m",
            "gen_ai.usage.prompt_tokens": 3,
            "gen_ai.usage.completion_tokens": 4,
            "gen_ai.prompt.0.content": SECRET,
            "server.address": "llm.example",
        },
    )
    assert (record["gen_ai.provider.name"], record["server.address"]) == ("anthropic", "llm.example")
    assert (record["gen_ai.usage.input_tokens"], record["gen_ai.usage.output_tokens"]) == (3, 4)


def test_of_two_names_the_newer_counts(log: AuditLog) -> None:
    """A span that has both."""
    record = spanned(
        log,
        {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "aws.bedrock", "gen_ai.system": "aws"},
    )
    assert record["gen_ai.provider.name"] == "aws.bedrock"


def test_a_guardrail_that_tells_by_an_event_is_heard(log: AuditLog) -> None:
    """Name and judgement, and nothing else of the event."""
    record = spanned(
        log,
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        {"guardrail.name": "pii-filter", "guardrail.action": "REDACTED", "guardrail.input": SECRET},
        {"guardrail.name": "tone", "guardrail.triggered": False},
    )
    assert (record["ml.guardrail.name"], record["ml.guardrail.outcome"]) == ("pii-filter", "modified")


@pytest.mark.parametrize(
    ("attributes", "reasons", "expected"),
    [
        ({"gen_ai.guardian.name": "g", "gen_ai.security.decision.type": "deny"}, None, ("g", "blocked")),
        ({"rail.name": "self check", "rail.stop": True}, None, ("self check", "blocked")),
        ({"rail.name": "self check", "rail.stop": False}, None, ("self check", "passed")),
        ({"aws.bedrock.guardrail.id": "g-1"}, ["guardrail_intervened"], ("g-1", "blocked")),
        ({}, ["SAFETY"], ("safety", "blocked")),
        ({}, "content_filter", ("content_filter", "blocked")),
        ({"guardrail.name": "g", "guardrail.outcome": "whatever"}, ["stop"], ("g", None)),
        ({"guardrail.outcome": 7}, None, (None, None)),
    ],
)
def test_the_judgement_of_a_guardrail(
    attributes: dict[str, Any], reasons: Any, expected: tuple[str | None, str | None]
) -> None:
    """Words, truth values and finish reasons; what is not understood is not guessed."""
    found = guardrail_of(attributes, [], reasons)
    assert (found.get("ml.guardrail.name"), found.get("ml.guardrail.outcome")) == expected


def test_a_broken_part_costs_the_program_nothing(
    client: openai.OpenAI, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is what it was, and the fault is reported."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(spans, "guardrail_of", broken)
    assert ask(client, "m").choices[0].message.content == SECRET
    assert log.of("audit.pipeline.failure")[0]["audit.component"] == "spans"
    assert guardrails.NAMES
