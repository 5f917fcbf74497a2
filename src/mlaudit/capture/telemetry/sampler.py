"""A sampler that passes spans to the audit which are not exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from mlaudit.capture.telemetry.spans import wants_spans
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.trace.span import TraceState
    from opentelemetry.util.types import Attributes


class RecordingSampler(Sampler):
    """Decides like the wrapped sampler; spans that it drops are recorded without being sampled.

    Such a span reaches span processors, but no exporter of the SDK's processors, and its children see it as not
    sampled. Only while the policy selects spans: recording costs as much as a sampled span without its export.
    """

    def __init__(self, inner: Sampler) -> None:
        """Takes the sampler that decides what is exported."""
        self.inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The inner decision, with RECORD_ONLY in place of DROP."""
        result = self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links)
        if result.decision is not Decision.DROP or not _wanted():
            return result
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """The inner sampler's description, marked as wrapped."""
        return f"MlauditRecording{{{self.inner.get_description()}}}"


def _wanted() -> bool:
    try:
        pipeline = current.pipeline()
        return pipeline is not None and wants_spans(pipeline.policy)
    except Exception:  # noqa: BLE001 - contained: a span must start
        return False
