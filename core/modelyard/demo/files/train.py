"""Train a model that says how likely a flight is to be late, and log it with its data and reference."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import modelyard

CATEGORIES = ["carrier", "origin", "dest", "weekday"]
NUMBERS = ["hour", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


def pipeline(kind: str, params: dict[str, float]) -> Pipeline:
    """The model: what each column needs, then a classifier."""
    if kind == "logistic":
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        columns = make_column_transformer(
            (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20), CATEGORIES),
            (numbers, NUMBERS),
        )
        return make_pipeline(columns, LogisticRegression(C=params["C"], max_iter=300))
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, CATEGORIES), ("passthrough", NUMBERS))
    boosting = HistGradientBoostingClassifier(
        max_iter=int(params["trees"]),
        learning_rate=params["learning_rate"],
        max_leaf_nodes=15,
        random_state=0,
    )
    return make_pipeline(columns, boosting)


def calibration_error(labels: pd.Series, chance: np.ndarray) -> float:
    """How far the predicted chance lies from what happened, over ten bins of equal size."""
    bins = np.array_split(np.argsort(chance), 10)
    return float(np.mean([abs(chance[b].mean() - labels.to_numpy()[b].mean()) for b in bins]))


def main() -> None:
    """Train on the days up to the 24th, judge on the rest of each month."""
    options = argparse.ArgumentParser()
    options.add_argument("--model", choices=["logistic", "boosting"], default="boosting")
    options.add_argument("--data", nargs="+", default=["winter"], help="names of data sets")
    options.add_argument("--months", nargs="+", type=int, default=[1, 2, 3])
    given = options.parse_args()
    params = {"C": 0.1} if given.model == "logistic" else {"trees": 80, "learning_rate": 0.1}

    yard = modelyard.open()
    with yard.run("late-flights", params={"model": given.model, "months": given.months, **params}) as run:
        refs = [run.use(name, role="train") for name in given.data]
        table = pd.concat([pd.read_parquet(yard.root / ref.path) for ref in refs], ignore_index=True)
        table = table[table["time"].dt.month.isin(given.months)]
        known, new = table[table["time"].dt.day <= 24], table[table["time"].dt.day > 24]
        features = CATEGORIES + NUMBERS
        model = pipeline(given.model, params).fit(known[features], known["late"])
        chance = model.predict_proba(new[features])[:, 1]
        run.log(
            {
                "auc": float(roc_auc_score(new["late"], chance)),
                "brier": float(brier_score_loss(new["late"], chance)),
                "calibration_error": calibration_error(new["late"], chance),
            }
        )
        run.log_model(
            model,
            example=new[features][:5],
            reference=modelyard.Reference(
                features=new[features], labels=new["late"], predictions=chance, times=new["time"]
            ),
        )
    print("run", run.id)


if __name__ == "__main__":
    main()
