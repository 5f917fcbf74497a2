"""A model service in Flask: estimates how far diabetes has progressed in a year.

Start it with ``MODEL=models/diabetes.joblib API_KEYS=keys.json flask --app app run``, or under gunicorn.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import joblib
from flask import Flask, abort, g, jsonify, request

app = Flask(__name__)
estimator = joblib.load(os.environ["MODEL"])
# SHA-256 of each key → its owner.
keys: dict[str, str] = json.loads(Path(os.environ["API_KEYS"]).read_text())
settings = {"round_to": 1}


@app.before_request
def authenticate() -> None:
    """Requires a key for every route except the health check."""
    if request.path == "/health":
        return
    given = hashlib.sha256(request.headers.get("X-API-Key", "").encode()).hexdigest()
    owner = next((name for key, name in keys.items() if hmac.compare_digest(key, given)), None)
    if owner is None:
        abort(401)
    g.user = owner


@app.get("/health")
def health() -> dict[str, str]:
    """Whether the service is up."""
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Any:
    """Estimates for rows of the ten features of scikit-learn's diabetes data set."""
    rows = request.get_json()["rows"]
    return jsonify([round(float(value), settings["round_to"]) for value in estimator.predict(rows)])


@app.put("/config/rounding")
def configure() -> Any:
    """Sets the number of decimal places of estimates; only for operators."""
    if g.user != "operator":
        abort(403)
    settings["round_to"] = int(request.get_json()["round_to"])
    return settings
