"""A nightly batch job: scores the patients of a CSV file and writes a Parquet file.

python score.py models/diabetes.joblib patients.csv scores.parquet
"""

import sys

import joblib
import pandas as pd

model_file, patients_file, scores_file = sys.argv[1:]
model = joblib.load(model_file)
patients = pd.read_csv(patients_file, index_col="patient")
scores = pd.DataFrame({"progression": model.predict(patients.to_numpy())}, index=patients.index)
scores.to_parquet(scores_file)
print(f"scored {len(scores)} patients, mean progression {scores['progression'].mean():.1f}")
