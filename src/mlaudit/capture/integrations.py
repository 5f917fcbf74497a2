"""The integrations: which library's import sets which hooks, and from which version of the library on.

One line for each. ``docs/libraries.md`` is generated from here, and ``make test-versions`` runs the tests of each
with the oldest version that the line states.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final, Protocol


class Integration(Protocol):
    """The hooks into one library; ``instrument`` and ``uninstrument`` are idempotent and may raise.

    ``name`` is the one that ``MLAUDIT_DISABLED_LIBRARIES`` uses; ``module`` is the module after whose import
    the hooks can be set.
    """

    name: str
    module: str

    def instrument(self) -> None:
        """Sets the hooks; the library's module has been imported."""

    def uninstrument(self) -> None:
        """Takes every hook out again."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Where an integration lives; ``path`` is imported only after ``module`` was.

    Attributes:
        name: see ``Integration``.
        module: see ``Integration``.
        path: module and class of the integration, ``package.module:Class``.
        distribution: name of the library on PyPI; "" for the standard library.
        oldest: the oldest version that is tested.
        captures: what it records, in a few words.
    """

    name: str
    module: str
    path: str
    distribution: str
    oldest: str
    captures: str

    def load(self) -> Integration:
        """Imports the integration and makes one."""
        module, _, attribute = self.path.partition(":")
        integration: Integration = getattr(importlib.import_module(module), attribute)()
        return integration


INTEGRATIONS: Final = (
    Registration(
        "starlette",
        "starlette.applications",
        "mlaudit.capture.web.starlette:StarletteIntegration",
        "starlette",
        "0.46",
        "requests to Starlette and FastAPI services: predictions, changes, authentication, denials, errors",
    ),
    Registration(
        "starlette-authentication",
        "starlette.middleware.authentication",
        "mlaudit.capture.web.starlette_authentication:StarletteAuthenticationIntegration",
        "starlette",
        "0.46",
        "credentials that an authentication backend refuses",
    ),
    Registration(
        "fastapi",
        "fastapi.security",
        "mlaudit.capture.web.fastapi:FastAPIIntegration",
        "fastapi",
        "0.110",
        "credentials that security dependencies find or miss, and who logs in",
    ),
    Registration(
        "flask",
        "flask.app",
        "mlaudit.capture.web.flask:FlaskIntegration",
        "flask",
        "2.3",
        "requests to Flask services: predictions, changes, authentication, denials, errors",
    ),
    Registration(
        "django",
        "django",
        "mlaudit.capture.web.django:DjangoIntegration",
        "django",
        "4.2",
        "requests to Django services behind WSGI and ASGI, logins and failed logins",
    ),
    Registration(
        "gunicorn",
        "gunicorn.workers.base",
        "mlaudit.capture.web.wsgi_servers:GunicornIntegration",
        "gunicorn",
        "21.2",
        "start and stop of workers that serve WSGI applications",
    ),
    Registration(
        "waitress",
        "waitress.server",
        "mlaudit.capture.web.wsgi_servers:WaitressIntegration",
        "waitress",
        "2.1",
        "start and stop of the server",
    ),
    Registration(
        "werkzeug",
        "werkzeug.serving",
        "mlaudit.capture.web.wsgi_servers:WerkzeugIntegration",
        "werkzeug",
        "2.3",
        "start and stop of the development server",
    ),
    Registration(
        "grpc",
        "grpc",
        "mlaudit.capture.web.grpc_server:GrpcIntegration",
        "grpcio",
        "1.64",
        "calls of gRPC servers, threaded and asyncio: predictions, requests, authentication, denials, errors",
    ),
    Registration(
        "jwt",
        "jwt",
        "mlaudit.capture.web.jwt:JwtIntegration",
        "pyjwt",
        "2.4",
        "tokens that are verified, whom they name, and those that fail",
    ),
    Registration(
        "pydantic-settings",
        "pydantic_settings",
        "mlaudit.capture.libraries.pydantic_settings:PydanticSettingsIntegration",
        "pydantic-settings",
        "2.0",
        "settings that differ from those of the last start, and fields set by the running program",
    ),
    Registration(
        "hydra",
        "hydra",
        "mlaudit.capture.libraries.hydra:HydraIntegration",
        "hydra-core",
        "1.3",
        "jobs as runs with their composed configuration, and how it differs from that of the last run",
    ),
    Registration(
        "ipython",
        "IPython.core.interactiveshell",
        "mlaudit.capture.libraries.ipython:IPythonIntegration",
        "ipython",
        "8.0",
        "sessions of notebooks and shells, and the cells executed in them, without their code",
    ),
    Registration(
        "sklearn",
        "sklearn.base",
        "mlaudit.capture.libraries.sklearn:SklearnIntegration",
        "scikit-learn",
        "1.4",
        "training, searches, evaluation and prediction by any estimator",
    ),
    Registration(
        "joblib",
        "joblib",
        "mlaudit.capture.libraries.joblib:JoblibIntegration",
        "joblib",
        "1.3",
        "models saved and loaded, compared with the register of artifacts",
    ),
    Registration(
        "pandas",
        "pandas",
        "mlaudit.capture.libraries.pandas:PandasIntegration",
        "pandas",
        "2.0",
        "data read and written, by file, object and table, in chunks too",
    ),
    Registration(
        "pyarrow",
        "pyarrow",
        "mlaudit.capture.libraries.pyarrow:PyarrowIntegration",
        "pyarrow",
        "14.0",
        "Parquet, data sets, CSV, JSON, Feather, ORC and IPC files read and written",
    ),
    Registration(
        "pickle",
        "pickle",
        "mlaudit.capture.libraries.pickle:PickleIntegration",
        "",
        "",
        "models saved and loaded by the program's own calls of load, loads, dump and dumps",
    ),
    Registration(
        "onnxruntime",
        "onnxruntime",
        "mlaudit.capture.libraries.onnxruntime:OnnxruntimeIntegration",
        "onnxruntime",
        "1.16",
        "models loaded into a session and compared with the register, and what they predict",
    ),
    Registration(
        "onnx",
        "onnx",
        "mlaudit.capture.libraries.onnx:OnnxIntegration",
        "onnx",
        "1.15",
        "models saved",
    ),
    Registration(
        "botocore",
        "botocore.client",
        "mlaudit.capture.libraries.botocore:BotocoreIntegration",
        "botocore",
        "1.31",
        "objects of S3 read, written, copied and deleted, by boto3 too",
    ),
    Registration(
        "sqlalchemy",
        "sqlalchemy.engine",
        "mlaudit.capture.libraries.sqlalchemy:SQLAlchemyIntegration",
        "sqlalchemy",
        "2.0",
        "reads and changes of the tables that the policy names, as their transactions end; sync, async and ORM",
    ),
    Registration(
        "optuna",
        "optuna",
        "mlaudit.capture.libraries.optuna:OptunaIntegration",
        "optuna",
        "3.2",
        "studies and each of their trials, in threads too; ask and tell",
    ),
    Registration(
        "lightgbm",
        "lightgbm",
        "mlaudit.capture.libraries.lightgbm:LightGBMIntegration",
        "lightgbm",
        "4.0",
        "training, cross-validation and prediction by boosters, and their files",
    ),
    Registration(
        "xgboost",
        "xgboost",
        "mlaudit.capture.libraries.xgboost:XGBoostIntegration",
        "xgboost",
        "2.0",
        "training, cross-validation and prediction by boosters, and their files",
    ),
    Registration(
        "mlflow",
        "mlflow",
        "mlaudit.capture.libraries.mlflow:MlflowIntegration",
        "mlflow",
        "2.12",
        "runs, evaluations, the model registry, models logged, loaded and asked",
    ),
    Registration(
        "torch",
        "torch",
        "mlaudit.capture.libraries.torch:TorchIntegration",
        "torch",
        "2.3",
        "models saved and loaded, and whether loading could run code",
    ),
    Registration(
        "lightning",
        "lightning.pytorch",
        "mlaudit.capture.libraries.lightning:LightningIntegration",
        "lightning",
        "2.2",
        "training, validation, test and prediction by a Trainer, and checkpoints",
    ),
    Registration(
        "pytorch-lightning",
        "pytorch_lightning",
        "mlaudit.capture.libraries.lightning:PytorchLightningIntegration",
        "pytorch-lightning",
        "2.2",
        "the same under its other name",
    ),
    Registration(
        "transformers",
        "transformers",
        "mlaudit.capture.libraries.transformers:TransformersIntegration",
        "transformers",
        "4.40",
        "training and evaluation by a Trainer, pipelines, and folders of pretrained models",
    ),
    Registration(
        "keras",
        "keras",
        "mlaudit.capture.libraries.keras:KerasIntegration",
        "keras",
        "3.3",
        "training, evaluation and prediction by models, and their files",
    ),
)
