"""What mlaudit costs, measured against OpenTelemetry's own log path and against a service without any of it."""
