"""The local stack: a real Elasticsearch and a real OpenTelemetry Collector as processes of this machine."""

from __future__ import annotations

from mlaudit.stack.cache import cache_dir
from mlaudit.stack.local_stack import Stack

__all__ = ["Stack", "cache_dir"]
