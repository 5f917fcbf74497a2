"""A model service: predicts from a tumour's measurements whether it is malignant.

Start it with ``MODEL_CONFIG=config.json MODEL_USERS=users.json uvicorn app:app``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Annotated

import joblib
from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, Field


class Config(BaseModel):
    """Settings that an operator may change while the service runs."""

    model: Path
    threshold: float = Field(0.5, ge=0, le=1)


class Measurements(BaseModel):
    """Rows of the 30 features of the Wisconsin breast cancer data set."""

    rows: list[list[float]] = Field(min_length=1, max_length=1000)


class Threshold(BaseModel):
    """A new decision threshold."""

    threshold: float = Field(ge=0, le=1)


class Model:
    """The model and its configuration; a changed configuration file is reloaded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0
        self.refresh()

    def refresh(self) -> None:
        """Reloads a changed configuration file."""
        changed = self._path.stat().st_mtime_ns
        if changed != self._read_at:
            self.config = Config.model_validate_json(self._path.read_text())
            self.estimator = joblib.load(self.config.model)
            self._read_at = changed

    def answer(self, rows: list[list[float]]) -> list[dict[str, object]]:
        """The probability of malignancy for each row, and the verdict."""
        probabilities = self.estimator.predict_proba(rows)[:, 0]
        return [
            {"malignant": bool(p >= self.config.threshold), "probability": float(p)} for p in probabilities
        ]


app = FastAPI(title="Tumour model")
model = Model(Path(os.environ["MODEL_CONFIG"]))
users: dict[str, dict[str, str]] = json.loads(Path(os.environ["MODEL_USERS"]).read_text())
basic = HTTPBasic()


def user(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> dict[str, str]:
    """The authenticated caller."""
    known = users.get(credentials.username, {"password": "", "role": ""})
    given = hashlib.scrypt(
        credentials.password.encode(), salt=credentials.username.encode(), n=1 << 10, r=8, p=1, dklen=32
    ).hex()
    if not hmac.compare_digest(given, known["password"]):
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED, "wrong name or password", {"WWW-Authenticate": "Basic"}
        )
    return known


def require(role: str) -> object:
    """A dependency that lets only callers of one role pass."""

    def check(caller: Annotated[dict[str, str], Depends(user)]) -> None:
        if caller["role"] not in (role, "admin"):
            raise HTTPException(status.HTTP_403_FORBIDDEN, f"needs the role {role}")

    return Depends(check)


@app.get("/health")
def health() -> dict[str, str]:
    """Whether the service is up."""
    return {"status": "ok"}


@app.post("/predict", dependencies=[require("analyst")])
def predict(measurements: Measurements) -> list[dict[str, object]]:
    """Verdicts for rows of measurements."""
    model.refresh()
    return model.answer(measurements.rows)


@app.put("/config", dependencies=[require("admin")])
def configure(change: Threshold) -> Config:
    """Changes the decision threshold until the next restart."""
    model.config = model.config.model_copy(update={"threshold": change.threshold})
    return model.config
