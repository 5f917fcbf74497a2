"""The service of test_canary: leaks its input wherever a careless program would."""

import logging
import os
from pathlib import Path

import joblib
import numpy as np
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from sklearn.base import BaseEstimator, ClassifierMixin

import mlaudit

TEXT = os.environ["CANARY_TEXT"]
handler = logging.FileHandler(os.environ["CANARY_LOG"])
logging.getLogger("mlaudit").addHandler(handler)
logging.getLogger("mlaudit").setLevel(logging.DEBUG)
trace.set_tracer_provider(TracerProvider())
app = FastAPI()


class Model(ClassifierMixin, BaseEstimator):
    """Has secrets among its hyper-parameters."""

    def __init__(self, api_key: str = "", connection: str = "", note: str = "", depth: int = 3) -> None:
        self.api_key = api_key
        self.connection = connection
        self.note = note
        self.depth = depth

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features):
        return np.zeros(len(features))


@app.post("/predict")
async def predict(request: Request):
    """Reads its body and answers with secrets."""
    await request.body()
    return {"answer": TEXT, "password": TEXT}


@app.get("/search")
def search():
    """Answers with secrets."""
    return {"found": TEXT}


@app.get("/items/{item}/detail")
def item(item: str):
    """Has a secret in its path."""
    return {"item": item}


@app.post("/boom")
def boom():
    """Fails with secrets in both messages."""
    try:
        raise ValueError(f"inner {TEXT}")
    except ValueError as error:
        raise RuntimeError(f"cannot log in: {TEXT}") from error


@app.post("/log")
def log():
    """Logs secrets."""
    logging.getLogger("shop").error("payment failed: %s", TEXT, extra={"card": TEXT})
    logging.getLogger("mlaudit.application").info("started")
    return {}


@app.post("/span")
def span():
    """Makes a span of a language model's call, with secrets in it."""
    with trace.get_tracer("llm").start_as_current_span("chat") as current:
        current.set_attribute("gen_ai.operation.name", "chat")
        current.set_attribute("gen_ai.request.model", "gpt-x")
        current.set_attribute("gen_ai.prompt", TEXT)
        current.set_attribute("gen_ai.input.messages", TEXT)
        current.set_attribute("db.statement", TEXT)
        current.record_exception(ValueError(TEXT))
    return {}


@app.post("/train")
def train():
    """Trains with secrets as hyper-parameters, and saves the model under a secret name."""
    model = Model(api_key=TEXT, connection=TEXT, note=TEXT)
    features, labels = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    model.fit(features, labels)
    model.predict(features)
    email = TEXT.split()[1]
    folder = f"models of {email}"
    Path(folder).mkdir(exist_ok=True)
    joblib.dump(model, f"{folder}/model.joblib")
    joblib.load(f"{folder}/model.joblib")
    with mlaudit.training_run(
        "canary", parameters={"password": TEXT, "note": TEXT}, dataset=f"s3://{email}/{TEXT}"
    ):
        pass
    return {}


@app.post("/record")
def record():
    """Records events by hand, carelessly."""
    mlaudit.record(
        "audit.app.canary.sung",
        outcome="failure",
        target=("object", TEXT),
        fields={"event.reason": TEXT, "error.message": TEXT, "error.stack_trace": TEXT},
        note=TEXT,
        api_key=TEXT,
    )
    with mlaudit.actor(TEXT.split()[1]):
        mlaudit.record("audit.app.canary.sung", target=TEXT)
    return {}
