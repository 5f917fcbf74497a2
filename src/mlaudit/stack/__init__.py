"""The local stack: a real Elasticsearch and a real OpenTelemetry Collector as processes of this machine.

``preparation`` gets both, ``elasticsearch_node`` and ``collector_process`` run them, ``local_stack`` starts and stops
all of it; ``cache`` keeps what is large outside of the checkout.
"""

from __future__ import annotations

from mlaudit.stack.cache import cache_dir
from mlaudit.stack.local_stack import Stack

__all__ = ["Stack", "cache_dir"]
