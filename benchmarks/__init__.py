"""The cost of mlaudit, compared with OpenTelemetry's own log path and with a service without either."""
