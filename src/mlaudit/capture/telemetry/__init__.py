"""OpenTelemetry in the process: providers, spans, logs.

``launcher`` and ``sdk_start`` put the audit's processors in place; ``spans``, ``logs`` and ``guardrails`` make events
of what others trace and log.
"""
