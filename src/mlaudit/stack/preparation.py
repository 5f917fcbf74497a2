"""Prerequisites of a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.stack import toolchain
from mlaudit.stack.collector_build import collector_binary
from mlaudit.stack.elasticsearch_fetch import elasticsearch_home
from mlaudit.stack.stack_layout import reachable

if TYPE_CHECKING:
    from mlaudit.stack.cache import Report


def prepare(report: Report, uid: int | None) -> tuple[Path, Path, Path]:
    """Find or make the prerequisites: Java's home, Elasticsearch's home, the collector.

    Raises:
        StackError: lists every program that is missing, before anything is fetched or built.
    """

    def usable(home: Path) -> bool:
        return uid is None or reachable(home / "bin", uid)

    java_home = toolchain.find_java(usable)
    toolchain.require([java_home, toolchain.find_go(), toolchain.find_maven()])
    home = elasticsearch_home(report)
    return Path(str(java_home)), home, collector_binary(report)
