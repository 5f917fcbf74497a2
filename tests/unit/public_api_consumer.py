"""A service of its own, as mypy --strict sees it in make check.

Each line that must be an error says so with an ignore: one that is none is an error itself (warn_unused_ignores).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlaudit
from mlaudit import Actor, AuditRefusedError, MlauditError, Signer, SignerError, Target, VerifyingKey
from mlaudit.testing import AuditLog, capture


class KmsSigner:
    def __init__(self, raw: bytes) -> None:
        self._key = VerifyingKey("acme", raw)

    @property
    def public_key(self) -> VerifyingKey:
        return self._key

    def sign(self, message: bytes) -> bytes:
        raise SignerError("not today")


class NoSigner:
    def sign(self, message: str) -> str:
        return message


def connect(reference: str) -> Signer:
    """A class with both members is a signer."""
    return KmsSigner(reference.encode())


def wrong(reference: str) -> Signer:
    """A class without a key is none."""
    return NoSigner()  # type: ignore[return-value]


def export(actor: Actor, version: str = mlaudit.__version__) -> str:
    """Uses the functions for one event."""
    with (
        mlaudit.actor(actor.id, name=actor.name, roles=actor.roles) as acting,
        mlaudit.purpose("report") as why,
    ):
        try:
            found: str | None = mlaudit.record(
                "audit.app.report.exported", actor=acting, target=Target("report", why), team="risk"
            )
        except AuditRefusedError as error:
            refused: MlauditError = error
            return str(refused)
        return found or version


async def train() -> str:
    """Uses a training run."""
    async with mlaudit.training_run("fraud", parameters={"lr": 0.01}) as run:
        run.log_metric("auc", 0.93)
        run.log_metric("auc", "high")  # type: ignore[arg-type]
        return run.run_id


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application."""
    return []


wrapped = mlaudit.WsgiMiddleware(application)
mlaudit.AsgiMiddleware(application)  # type: ignore[arg-type]
mlaudit.recrod("audit.app.report.exported")  # type: ignore[attr-defined]
mlaudit.record(7)  # type: ignore[arg-type]
number: int = mlaudit.record("audit.app.report.exported")  # type: ignore[assignment]


def records(log: AuditLog) -> list[dict[str, Any]]:
    """Uses what tests of a service use."""
    with capture(policy=None) as other:
        other.fail()
    return log.of("audit.ml.prediction")
