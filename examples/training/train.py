"""Trains a breast cancer classifier and saves it: python train.py models/breast-cancer.joblib"""

import argparse
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="where to save the trained model")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    data = load_breast_cancer()
    train_rows, test_rows, train_labels, test_labels = train_test_split(
        data.data, data.target, test_size=0.25, stratify=data.target, random_state=arguments.seed
    )
    pipeline = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=2000))])
    search = GridSearchCV(pipeline, {"classify__C": [0.01, 0.1, 1.0, 10.0]}, scoring="roc_auc", cv=5)
    search.fit(train_rows, train_labels)

    print(f"best parameters: {search.best_params_}")
    print(f"cross-validated ROC AUC: {search.best_score_:.4f}")
    print(f"test ROC AUC: {search.score(test_rows, test_labels):.4f}")
    predicted = search.best_estimator_.predict(test_rows)
    print(classification_report(test_labels, predicted, target_names=data.target_names))

    arguments.model.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(search.best_estimator_, arguments.model)
    print(f"saved {arguments.model}")


if __name__ == "__main__":
    main()
