"""Trains the model of the Flask service: python train.py models/diabetes.joblib"""

import sys

import joblib
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split

data = load_diabetes()
train_rows, test_rows, train_values, test_values = train_test_split(data.data, data.target, random_state=7)
model = RandomForestRegressor(n_estimators=50, random_state=7).fit(train_rows, train_values)
print(f"R2 on unseen patients: {model.score(test_rows, test_values):.3f}")
joblib.dump(model, sys.argv[1])
