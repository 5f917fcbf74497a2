"""OpenTelemetry in the process: providers, spans, logs.

``launcher`` and ``sdk_start`` add the audit's processors; ``spans``, ``logs`` and ``guardrails`` convert the telemetry
of other instrumentations to events.
"""
