"""ML audit logging on OpenTelemetry."""

__version__ = "0.1.0"
