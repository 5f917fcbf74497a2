"""The service under load, without a line about auditing or tracing: one route that does nothing, one that predicts."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model: Any = None

if path := os.environ.get("BENCHMARK_MODEL"):
    import joblib

    model = joblib.load(path)


class Rows(BaseModel):
    """What the model is asked about."""

    rows: list[list[float]]


@app.get("/noop")
async def noop() -> dict[str, bool]:
    """Does nothing."""
    return {"ok": True}


@app.post("/predict")
def predict(question: Rows) -> dict[str, list[int]]:
    """Asks the model, in a worker thread, as such routes are usually written."""
    return {"classes": model.predict(question.rows).tolist()}
