"""The table `[providers.mlflow]`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MlflowSettings(BaseModel):
    """Where MLflow keeps things."""

    model_config = ConfigDict(extra="forbid")
    tracking_uri: str | None = Field(
        None, description="MLflow's tracking URI; default: sqlite in the project's state folder."
    )
    experiment: str | None = Field(None, description="The experiment's name; default: the project's.")
