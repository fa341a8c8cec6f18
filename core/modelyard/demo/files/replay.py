"""Send flights to the endpoint as if they were booked now, and write down how they turned out.

One request is about the flights of a few hours; `X-Event-Time` says when they were, so that the
monitor sees 2013. What happened is not known when the question is asked: it goes into a file of labels.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track

import modelyard
from modelyard.records import Endpoint

FEATURES = ["carrier", "origin", "dest", "weekday", "hour", "distance"]
FEATURES += ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


def main() -> None:
    """Replay a sample of the months; the seed makes it the same every time."""
    options = argparse.ArgumentParser()
    options.add_argument("--months", nargs="+", type=int, default=[4, 5, 6, 7])
    options.add_argument("--rows", type=int, default=3000, help="flights per month")
    options.add_argument("--hours", type=int, default=3, help="how much of a day one request is about")
    options.add_argument("--name", default="flights", help="begins every prediction id")
    options.add_argument("--labels", type=Path, default=Path("traffic/labels.csv"))
    given = options.parse_args()

    yard = modelyard.open()
    endpoint = yard.endpoints.get("late-flights")
    table = pd.read_parquet(yard.root / "data" / "summer.parquet")
    months = [table[table["time"].dt.month == month] for month in given.months]
    sample = pd.concat([m.sample(min(given.rows, len(m)), random_state=2013) for m in months])
    slots = list(sample.sort_values("time").groupby(sample["time"].dt.floor(f"{given.hours}h")))

    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(ask, endpoint, f"{given.name}-{start:%Y-%m-%dT%H}", start, rows)
            for start, rows in slots
        ]
        progress = track(
            asked, "replaying", console=Console(stderr=True), disable=not Console(stderr=True).is_terminal
        )
        versions = Counter(answer.result() for answer in progress)

    given.labels.parent.mkdir(exist_ok=True)
    with given.labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prediction_id", "row", "label"])
        for start, rows in slots:
            for number, late in enumerate(rows["late"]):
                writer.writerow([f"{given.name}-{start:%Y-%m-%dT%H}", number, late])
    answered = ", ".join(f"version {v}: {n}" for v, n in sorted(versions.items()))
    print(f"{len(sample)} flights in {len(slots)} requests, answered by {answered}")


def ask(endpoint: Endpoint, prediction_id: str, start: pd.Timestamp, rows: pd.DataFrame) -> str:
    """One request; returns the version that answered."""
    headers = {"X-Request-Id": prediction_id, "X-Event-Time": start.isoformat()}
    return endpoint.predict(rows[FEATURES], headers=headers).version


if __name__ == "__main__":
    main()
