"""The 25 attributes of one record: a prediction, the same for both sides of the comparison."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

COUNT = 25
_ACTORS = 500
_AGENTS = ("python-httpx/0.28.1", "Mozilla/5.0 (X11; Linux x86_64)", "okhttp/4.12.0", "curl/8.7.1")


def _actor(index: int) -> int:
    return index * 7919 % _ACTORS


def user_of(index: int) -> str:
    """Who sent the request ``index``: one of 500, each with their own address."""
    return f"user{_actor(index)}@example.org"


def attributes_of(index: int, source: random.Random) -> dict[str, Any]:
    """The attributes of the request ``index``: some values are unique, some repeat, some are constant."""
    digest = sha256(str(index).encode()).hexdigest()
    address = f"198.51.{_actor(index) // 250}.{_actor(index) % 250 + 1}"
    return {
        "http.request.method": "POST",
        "http.route": "/predict",
        "url.path": "/predict",
        "url.scheme": "https",
        "url.domain": "models.example.org",
        "client.address": address,
        "source.ip": address,
        "source.port": source.randrange(1024, 65536),
        "user_agent.original": _AGENTS[index % len(_AGENTS)],
        "user.id": user_of(index),
        "http.request.id": digest[:32],
        "http.request.body.bytes": source.randrange(40, 4000),
        "http.request.body.hash.sha256": digest,
        "http.response.status_code": 200,
        "http.response.body.bytes": source.randrange(10, 400),
        "http.response.body.hash.sha256": digest[::-1],
        "event.duration": source.randrange(200_000, 20_000_000),
        "ml.model.name": "fraud",
        "ml.model.version": "3",
        "ml.model.class": "sklearn.ensemble._forest.RandomForestClassifier",
        "ml.model.library": "scikit-learn",
        "ml.model.digest": "5a1f0d8e3b6c4a2f9e7d1c0b8a6f4e2d5a1f0d8e3b6c4a2f9e7d1c0b8a6f4e2d",
        "ml.prediction.method": "predict_proba",
        "ml.prediction.rows": 1 + index % 8,
        "ml.prediction.input.digest": digest,
    }
