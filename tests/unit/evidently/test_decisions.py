"""What was served is compared by the names of the classes, however the endpoint answers."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.active import predictions_of
from modelyard.stages import Reference
from modelyard_evidently.events import decision_of
from modelyard_evidently.profile import build
from modelyard_evidently.values import number_of, text_of
from modelyard_evidently.windows import Span, scored

SPAN = Span("e", "m", "1", datetime(2013, 4, 1, tzinfo=timezone.utc), "day")


def fitted(names: list[Any]) -> tuple[Any, pd.DataFrame, list[Any]]:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    place = random.integers(0, len(names), 600)
    table = pd.DataFrame({"x": place + random.normal(0, 0.4, 600), "y": random.normal(0, 1, 600)})
    labels = [names[n] for n in place]
    return LogisticRegression().fit(table, labels), table, labels


def frame(table: pd.DataFrame, labels: list[Any], answers: list[Any]) -> pd.DataFrame:
    """Rows as the log gives them back."""
    served = [decision_of(answer) for answer in answers]
    return pd.DataFrame(
        {
            **{f"feature.{name}": table[name] for name in table},
            "prediction": [number_of(decision) for decision, _ in served],
            "decision": [text_of(decision) for decision, _ in served],
            "score": pd.Series([score for _, score in served], dtype=float),
            "value": [number_of(label) for label in labels],
            "text": [text_of(label) for label in labels],
        }
    )


@pytest.mark.parametrize("probabilities", [True, False], ids=["probabilities", "classes"])
@pytest.mark.parametrize(
    "names",
    [["benign", "malignant"], [1, 2], ["rot", "weiß", "rosé"], [1, 2, 3], [0, 1, 2], [False, True], [0, 1]],
    ids=str,
)
def test_the_accuracy_is_that_of_the_model(names: list[Any], probabilities: bool) -> None:
    model, table, labels = fitted(names)
    reference = Reference(
        features=table,
        labels=labels,
        predictions=predictions_of(model, table),
        classes=model.classes_.tolist(),
    )
    profile = build(reference, floor=0.1)
    answers = (model.predict_proba if probabilities else model.predict)(table).tolist()
    window = scored(SPAN, frame(table, labels, answers), profile, 300)
    exact = model.score(table, labels)
    assert 0.6 < exact < 1
    assert profile["quality"]["accuracy"] == pytest.approx(exact)
    assert window.quality["accuracy"] == pytest.approx(exact)
    drifted = [c.column for c in window.columns if c.drifted]
    assert drifted == []
    assert ("auc" in profile["quality"]) == (set(names) <= {0, 1})
