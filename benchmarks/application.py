"""The service under load, without a line about auditing or tracing: a route without work, and one that predicts."""

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
    """The input of a prediction."""

    rows: list[list[float]]


@app.get("/noop")
async def noop() -> dict[str, bool]:
    """Does nothing."""
    return {"ok": True}


@app.post("/predict")
def predict(question: Rows) -> dict[str, list[int]]:
    """Predicts in a worker thread, as such routes usually do."""
    return {"classes": model.predict(question.rows).tolist()}
