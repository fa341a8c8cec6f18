"""Settings: `modelyard.toml`, `gates.toml`, and what overrides them.

Precedence: flag (`--set stages.track=acme`) > environment (`MODELYARD_STAGES__TRACK=acme`) >
file > default. Unknown keys are errors that name the key which was meant.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from modelyard.errors import ConfigError, UsageError
from modelyard.toml import read_toml, read_value

if TYPE_CHECKING:
    from modelyard.offers import Offer

PROJECT_FILE = "modelyard.toml"
GATES_FILE = "gates.toml"
M = TypeVar("M", bound=BaseModel)

Name = Annotated[str, Field(pattern=r"^\w[\w .-]*$", max_length=100)]


class ProjectTable(BaseModel):
    """`[project]`"""

    model_config = ConfigDict(extra="forbid")
    name: Name = Field(description="What the project is called; runs are grouped under it.")


class StagesTable(BaseModel):
    """`[stages]`: the provider of each stage, by name."""

    model_config = ConfigDict(extra="forbid")
    track: str = Field("mlflow", description="Where runs are tracked.")
    data: str = Field("dvc", description="What versions the data.")
    registry: str = Field("mlflow", description="Where model versions and aliases are kept.")
    serving: str = Field("kserve", description="What runs InferenceServices.")
    monitoring: str = Field("evidently", description="What watches predictions.")


class ServiceTable(BaseModel):
    """`[targets.NAME.services.SERVICE]`: how a service of a cluster is reached."""

    model_config = ConfigDict(extra="forbid")
    url: str | None = Field(None, description="Its address from this machine; else it is forwarded.")
    service: str | None = Field(None, description="NAMESPACE/NAME:PORT of its Service in the cluster.")
    secret: str | None = Field(None, description="NAMESPACE/NAME of the Secret with its login.")
    user: str | None = Field(None, description="The login's user, where no Secret says it.")
    password_env: str | None = Field(None, description="The environment variable with the password.")
    storage: str | None = Field(None, description="Where it keeps files, e.g. s3://mlflow.")


class TargetTable(BaseModel):
    """`[targets.NAME]`: a cluster."""

    model_config = ConfigDict(extra="forbid")
    kubeconfig: str | None = Field(None, description="The file; default: $KUBECONFIG or ~/.kube/config.")
    context: str | None = Field(None, description="One of its contexts; default: the current one.")
    namespace: str = Field("default", description="Where InferenceServices go that name no namespace.")
    services: dict[Literal["mlflow", "s3", "monitor", "gateway"], ServiceTable] = Field(
        default_factory=dict, description="Where its services are, if not where our sandbox has them."
    )


class Settings(BaseModel):
    """A whole `modelyard.toml`."""

    model_config = ConfigDict(extra="forbid")
    project: ProjectTable
    stages: StagesTable = Field(default_factory=StagesTable)
    providers: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of providers, one table each: `[providers.mlflow]`.",
    )
    target: str = Field("local", description="Where the stages run: `local`, `sandbox`, or a named target.")
    targets: dict[str, TargetTable] = Field(
        default_factory=dict, description="Clusters, one table each: `[targets.prod]`."
    )
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> Mapping[str, str]:
        """Where overridden keys come from, e.g. `stages.track` from `MODELYARD_STAGES__TRACK`."""
        return self._origins


class GateTable(BaseModel):
    """One `[[gate]]` of `gates.toml`; all further keys belong to the check."""

    model_config = ConfigDict(extra="allow")
    check: str = Field(description="The gate's name, as `modelyard gates list` shows it.")
    alias: str | None = Field(None, description="Only for promotions to this alias.")
    model: str | None = Field(None, description="Only for this model.")


class GatesFile(BaseModel):
    """A whole `gates.toml`."""

    model_config = ConfigDict(extra="forbid")
    gate: list[GateTable] = Field(default_factory=list)


def load_settings(root: Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings of the project in `root`.

    Args:
        root: the folder of `modelyard.toml`.
        overrides: `table.key=value` from flags; values are TOML, or text if they are not.

    Raises:
        ConfigError: `config-syntax`, `config-unknown-key`, `config-missing-key`, `config-wrong-value`.
    """
    values = read_toml(root / PROJECT_FILE)
    origins: dict[str, str] = {}
    for path, text in _environment_settings():
        origins[".".join(path)] = _variable(path)
        _set(values, path, read_value(text), _variable(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError("bad-override", f"--set {override} is not TABLE.KEY=VALUE")
        origins[key] = f"--set {override}"
        _set(values, key.split("."), read_value(text), f"--set {override}")
    settings = validate(Settings, values, str(root / PROJECT_FILE), origins=origins)
    settings._origins = origins
    return settings


def provider_settings(settings: Settings, root: Path, offer: Offer[Any]) -> BaseModel | None:
    """The validated table `[providers.NAME]` of a provider; None for one that takes no settings.

    Raises:
        ConfigError: `config-unknown-key`, `config-missing-key` or `config-wrong-value`, with the key.
    """
    values = settings.providers.get(offer.name, {})
    where = str(root / PROJECT_FILE)
    if offer.settings is not None:
        return validate(offer.settings(), values, where, f"providers.{offer.name}", settings.origins)
    if values:
        raise ConfigError(
            "config-unknown-key",
            f"{where}: providers.{offer.name}.{next(iter(values))}: '{offer.name}' takes no settings",
            f"edit {where}",
        )
    return None


def load_gates(root: Path) -> list[GateTable]:
    """The gates that `gates.toml` names; an absent file means none."""
    file = root / GATES_FILE
    return validate(GatesFile, read_toml(file), str(file)).gate if file.exists() else []


def validate(
    model: type[M],
    values: Mapping[str, Any],
    where: str,
    prefix: str = "",
    origins: Mapping[str, str] | None = None,
) -> M:
    """The values as the pydantic model, or one sentence about the first thing that is wrong.

    Args:
        model: the pydantic model, with `extra="forbid"`.
        values: what was read.
        where: the file, for the message.
        prefix: the table inside the file, e.g. `providers.mlflow`.
        origins: keys that come from elsewhere, and from where.
    """
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        raise _explained(model, fault, where, prefix, origins or {}) from None


def _explained(
    model: type[BaseModel], fault: ValidationError, where: str, prefix: str, origins: Mapping[str, str]
) -> ConfigError:
    first = fault.errors()[0]
    path = [*([prefix] if prefix else []), *(str(part) for part in first["loc"])]
    key = ".".join(path)
    where = next((origin for k, origin in origins.items() if f"{k}.".startswith(f"{key}.")), where)
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        meant = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known) or 'none'}"
        return ConfigError("config-unknown-key", f"{where}: unknown key '{key}'{meant}", f"correct {where}")
    if first["type"] == "missing":
        return ConfigError("config-missing-key", f"{where}: '{key}' is missing", f"add it to {where}")
    said = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(
        "config-wrong-value", f"{where}: '{key}' is {first['input']!r:.80}: {said}", f"correct {where}"
    )


def _keys_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        inner = field.annotation
        arguments = getattr(inner, "__args__", ())
        inner = next((a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _environment_settings() -> list[tuple[list[str], str]]:
    found = [
        (name.removeprefix("MODELYARD_").lower().split("__"), text)
        for name, text in sorted(os.environ.items())
        if name.startswith("MODELYARD_") and "__" in name
    ]
    return [(path, text) for path, text in found if all(path)]


def _variable(path: Sequence[str]) -> str:
    return "MODELYARD_" + "__".join(path).upper()


def _set(values: dict[str, Any], path: Sequence[str], value: Any, source: str) -> None:
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError("bad-override", f"{source}: '{part}' is not a table")
    table[path[-1]] = value
