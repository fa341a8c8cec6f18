"""The areas of a project as users see them: `yard.runs`, `.data`, `.models`, `.endpoints`, `.monitor`.

Each is a thin layer over the stage's provider that adds what is the same for every provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelyard import manifests
from modelyard.errors import ConfigError, NotFoundError, UsageError
from modelyard.manifests import Source
from modelyard.records import (
    Alert,
    DataRef,
    Endpoint,
    Explanation,
    Finding,
    LoggedModel,
    ModelVersion,
    Prediction,
    RequestStats,
    Run,
    Window,
)
from modelyard.stages import DataStatus, Label, Progress, ResolvedModel, unseen
from modelyard.targets import LOCAL

if TYPE_CHECKING:
    from modelyard.client import Answer
    from modelyard.yard import Yard

# Spelt out here, because inside the classes below `list` is a method.
_Refs = list[DataRef]
_Runs = list[Run]
_Lines = list[str]
_States = list[DataStatus]
_Statistics = list[RequestStats]
_Findings = list[Finding]
_Sources = list[Source]


class Area:
    """Something of the project; `_yard` opens providers on first use."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard


class Runs(Area):
    """The project's tracked runs."""

    def list(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first."""
        return self._yard.tracker.runs(name=name, limit=limit)

    def get(self, run_id: str) -> Run:
        """One run by its id, or by the beginning of it if that is clear.

        Raises:
            NotFoundError: `run-not-found`.
        """
        try:
            return self._yard.tracker.get(run_id)
        except NotFoundError:
            alike = [run for run in self.list(limit=500) if run.id.startswith(run_id)] if run_id else []
            if len(alike) == 1:
                return alike[0]
            raise

    def compare(self, run_ids: Sequence[str]) -> _Runs:
        """The runs side by side, in the order given."""
        return [self.get(run_id) for run_id in run_ids]

    def logs(self, run_id: str, *, lines: int = 100) -> _Lines:
        """The last lines that a run printed, oldest first; also while it runs.

        Raises:
            NotFoundError: `run-not-found`; `run-output-missing`: it printed nothing, or ran on another
                machine.
        """
        from modelyard.output import read

        return read(self._yard.state, self.get(run_id).id, lines)


class Data(Area):
    """The project's data sets."""

    def add(self, path: str | Path, *, name: str | None = None) -> DataRef:
        """Take a file or folder as a version.

        Raises:
            NotFoundError: `data-not-found`.
        """
        return self._yard.store.add(self._yard.inside(path), name=name)

    def list(self) -> list[DataRef]:
        """The current version of every data set."""
        return self._yard.store.refs()

    def get(self, name: str) -> DataRef:
        """The current version of one data set, by name or path.

        Raises:
            NotFoundError: `data-not-found`.
        """
        return self._yard.store.get(name)

    def status(self) -> _States:
        """Every data set compared with the working tree."""
        return self._yard.store.status()

    def push(self, names: Sequence[str] = ()) -> _Refs:
        """Copy to the remote what it lacks."""
        return self._yard.store.push(names)

    def pull(self, names: Sequence[str] = ()) -> _Refs:
        """Bring the current versions here, each byte checked."""
        return self._yard.store.pull(names)

    def set_remote(self, url: str | Path) -> None:
        """Name the remote: a folder or a URL."""
        self._yard.store.set_remote(str(url))

    def remote(self) -> str | None:
        """The remote without credentials, or None."""
        return self._yard.store.remote()


class Models(Area):
    """The project's registered models."""

    def register(
        self, name: str, model: LoggedModel | None = None, *, run: str | None = None
    ) -> ModelVersion:
        """A new version of `name`, from what `run.log_model` gave or from a run that logged one model.

        Raises:
            UsageError: `no-model`: the run logged none, or several.
        """
        return self._yard.registry.register(name, model if model is not None else self._model_of(run))

    def names(self) -> list[str]:
        """The registered names."""
        return self._yard.registry.models()

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, newest first."""
        return self._yard.registry.versions(name)

    def get(self, ref: str) -> ModelVersion:
        """One version by `NAME/VERSION` or `NAME@ALIAS`; a bare NAME is its newest version.

        Raises:
            NotFoundError: `model-not-found`, `version-not-found` or `alias-not-found`.
        """
        name, at, alias = ref.rpartition("@")
        if at:
            version = self._yard.registry.alias(name, alias)
            if version is None:
                raise NotFoundError(
                    "alias-not-found",
                    f"no version of '{name}' is '{alias}'",
                    f"modelyard promote {name}/1 --to {alias} --reason ...",
                )
            return self._yard.registry.get(name, version)
        name, slash, version = ref.rpartition("/")
        if slash:
            return self._yard.registry.get(name, version)
        return self.versions(ref)[0]

    def path(self, ref: str | ModelVersion) -> Path:
        """The version's files on this machine; do not write to them."""
        version = ref if isinstance(ref, ModelVersion) else self.get(ref)
        return self._yard.registry.fetch(version)

    def find(self, uri: str) -> ModelVersion:
        """The version that `models:/NAME/VERSION` or `models:/NAME@ALIAS` means now; no file is fetched.

        Raises:
            UsageError: `model-uri-invalid`.
        """
        scheme, _, ref = uri.partition(":/")
        if scheme != "models" or not ref.strip("/") or not ("/" in ref or "@" in ref):
            raise UsageError(
                "model-uri-invalid",
                f"'{uri}' is not models:/NAME/VERSION or models:/NAME@ALIAS",
                "modelyard models list",
            )
        return self.get(ref.strip("/"))

    def resolve(self, uri: str) -> ResolvedModel:
        """`models:/NAME/VERSION` or `models:/NAME@ALIAS` as a version with its files.

        Raises:
            UsageError: `model-uri-invalid`.
        """
        version = self.find(uri)
        return ResolvedModel(version=version, path=self.path(version))

    def _model_of(self, run_id: str | None) -> LoggedModel:
        if run_id is None:
            raise UsageError("no-model", "name a run or give the model that it logged")
        run = self._yard.runs.get(run_id)
        if len(run.models) != 1:
            raise UsageError(
                "no-model",
                f"run {run.id} logged {len(run.models)} models, so it is not clear which to register",
                "log one with run.log_model(model, example=X[:5])",
            )
        return self._yard.tracker.logged_model(run.models[0])


class Endpoints(Area):
    """The project's InferenceServices."""

    def apply(
        self, manifest: str | Path | Source, *, trust: bool = False, progress: Progress = unseen
    ) -> Endpoint:
        """Make the endpoint as its InferenceService file says, and wait until it is ready.

        Args:
            manifest: the file, or one of the documents that `read` gave.
            trust: consent that pickles and code of the model's files, as they are now, are loaded. It is
                remembered for these files, and holds for no others.
            progress: is told the endpoint as it is while it is waited for.

        Raises:
            ConfigError: `manifest-invalid`, with the field's path.
            EnvironmentFault: `revision-failed`: the old revision still answers.
        """
        if isinstance(manifest, Source):
            file, text = manifest.file, manifest.text
        else:
            file, text = self._place(manifest), None
            if not file.is_file():
                raise NotFoundError(
                    "manifest-not-found",
                    f"there is no file {manifest}",
                    "name an InferenceService file: -f FILE",
                )
        return self._deployed(self._yard.server.apply(file, text=text, trust=trust, progress=progress))

    def read(self, *places: str | Path) -> _Sources:
        """The documents of files and folders, to be applied one by one. Those that are no InferenceServices
        or InferenceGraphs are not for `apply`; of several that are, none is given if something is wrong with
        one. Graphs come last: they ask the others. ServingRuntimes go along with each InferenceService.

        Args:
            places: files, folders of YAML files, or `-` for standard input.

        Raises:
            NotFoundError: `manifest-not-found`.
            ConfigError: `manifest-invalid`, with the first thing that is wrong.
        """
        found: _Sources = []
        for file, text in self._texts(places):
            found += manifests.sources(text, file)
        services = [one for one in found if one.is_endpoint]
        if not services:
            named = ", ".join(map(str, places))
            kinds = ", ".join(dict.fromkeys(one.kind for one in found)) or "nothing"
            raise ConfigError(
                "manifest-invalid", f"{named}: no InferenceService, but {kinds}", "apply a file with one"
            )
        runtimes = [one for one in found if one.is_runtime] if self._yard.target_name == LOCAL else []
        if runtimes:
            self._require_right(runtimes)
            services = [one if one.is_graph else one.beside(runtimes) for one in services]
        if len(services) > 1:
            self._require_right(services)
        found = [*services, *(one for one in found if not one.is_endpoint)]
        return sorted(found, key=lambda one: one.is_graph)

    def _require_right(self, services: Sequence[Source]) -> None:
        """Everything that is wrong with one of them is found before the first is applied."""
        findings = [one for s in services for one in self._yard.server.lint(s.text, str(s.file))]
        findings += self._twins(services, None)
        wrong = [one for one in findings if one.level == "error"]
        if wrong:
            first, more = wrong[0], len(wrong) - 1
            field = f"{first.field}: " if first.field else ""
            others = f"; and {more} more" if more else ""
            raise ConfigError(
                "manifest-invalid",
                f"{first.file}, line {first.line}: {field}{first.message}{others}; nothing was applied",
                f"modelyard endpoints lint '{first.file}'"
                if first.file != "<stdin>"
                else "put it right, then apply it again",
                details={"findings": [one.to_dict() for one in wrong]},
            )

    def lint(self, *places: str | Path, mode: str | None = None) -> _Findings:
        """What is wrong in files, and what they say that will not be so; nothing is applied.

        Args:
            places: files, folders of YAML files, or `-` for standard input.
            mode: how they would be deployed: with KServe `local`, `knative` or `standard`; None: as `apply`
                would here.

        Raises:
            NotFoundError: `manifest-not-found`.
        """
        found: _Findings = []
        texts = list(self._texts(places))
        twins = self._twins([s for file, text in texts for s in manifests.sources(text, file)], mode)
        for file, text in texts:
            found += self._yard.server.lint(text, str(file), mode=mode)
            found += [one for one in twins if one.file == str(file)]
        return found

    def lint_text(self, text: str, where: str = "<text>", *, mode: str | None = None) -> _Findings:
        """The same for a text; `where` names it in what is found."""
        found = self._yard.server.lint(text, where, mode=mode)
        return found + self._twins(manifests.sources(text, Path(where)), mode)

    def _texts(self, places: Sequence[str | Path]) -> Iterator[tuple[Path, str]]:
        """The files that are meant with their texts: each once, also if its folder is named as well."""
        seen: set[Path] = set()
        for place in places:
            if str(place) == "-":
                yield Path("<stdin>"), manifests.stdin_text()
                continue
            for file in manifests.files([self._place(place)]):
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield file, manifests.text_of(file)

    def _twins(self, found: Sequence[Source], mode: str | None) -> _Findings:
        """Here a project has one endpoint of each name; on clusters a namespace has one of each kind."""
        here = (mode or self._yard.target_name) == LOCAL
        return [*manifests.twins(found, one_of_each_name=here)]

    def reconcile(self, name: str) -> Endpoint:
        """See what the applied file means now (an alias may have moved) and make it so."""
        return self._deployed(self._yard.server.reconcile(name))

    def traffic(self, name: str, canary: int) -> Endpoint:
        """The newest revision's share in percent: 100 promotes it, 0 sends all to the one before."""
        if not 0 <= canary <= 100:
            raise UsageError("traffic-invalid", f"{canary} is not a percentage from 0 to 100")
        return self._yard.server.traffic(name, canary)

    def list(self) -> list[Endpoint]:
        """All endpoints, by name."""
        return self._yard.server.endpoints()

    def get(self, name: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFoundError: `endpoint-not-found`.
        """
        return self._yard.server.get(name)

    def delete(self, name: str) -> None:
        """End its processes and forget it."""
        self._yard.server.delete(name)

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last lines of its log, oldest first."""
        return self._yard.server.logs(name, lines=lines)

    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last requests that it got, oldest first: one JSON object a line.

        Raises:
            NotFoundError: `endpoint-not-found`.
            UsageError: `no-access-log`: requests are not logged.
        """
        return self._yard.server.access_log(name, lines=lines)

    def explain(self, name: str) -> Explanation:
        """The endpoint with its processes, events, and the last log lines of revisions that failed.

        Raises:
            NotFoundError: `endpoint-not-found`.
        """
        return self._yard.server.explain(name)

    def invoke(
        self,
        name: str,
        rows: Any,
        *,
        protocol: Literal["v1", "v2"] = "v1",
        params: Mapping[str, Any] | None = None,
        batch: int = 1000,
        delimiter: str = ",",
    ) -> Iterator[Answer]:
        """Predictions for any number of rows, in requests of `batch` rows; the answers in their order.

        Args:
            name: the endpoint's.
            rows: a DataFrame, a NumPy array, a list of dicts or lists, or the path of a CSV, Parquet or JSON
                file. Values of a CSV file get the types of the model's signature; columns that it does not
                take are left out.
            protocol: KServe's V1 or V2 JSON.
            params: what the signature of an MLflow model states as such, by name.
            batch: rows of one request.
            delimiter: between the values of a CSV file.

        Raises:
            NotFoundError: `endpoint-not-found`, `file-not-found`.
            UsageError: `prediction-refused`, `rows-invalid`, `rows-missing`.
            EnvironmentFault: `endpoint-unreachable`, `prediction-failed`.
        """
        from modelyard.asking import ask

        return ask(self.get(name), rows, protocol=protocol, params=params, batch=batch, delimiter=delimiter)

    def token(self, name: str, *, anew: bool = False) -> str:
        """The bearer token that the endpoint asks of callers, for those that are not ours.

        Args:
            name: the endpoint's.
            anew: make another one; the old one is refused from then on.

        Raises:
            NotFoundError: `endpoint-not-found`.
            UsageError: `no-token`: it asks for none.
        """
        return self._yard.server.token(name, anew=anew)

    def statistics(self, name: str) -> _Statistics:
        """What its revisions answered, by their names, since their processes started.

        Raises:
            NotFoundError: `endpoint-not-found`.
            EnvironmentFault: `endpoint-unreachable`.
        """
        return self._yard.server.statistics(name)

    def _place(self, named: str | Path) -> Path:
        """What is meant: seen from here, else from the project's folder."""
        place = Path(named)
        return place if place.is_absolute() or place.exists() else self._yard.root / place

    def _deployed(self, endpoint: Endpoint) -> Endpoint:
        # A model from a plain folder is no version of anybody's, so there is no profile to watch it by.
        registered = (r for r in endpoint.revisions if r.traffic and r.storage_uri.startswith("models:/"))
        refs = sorted({(r.model, r.version) for r in registered})
        models = [self._yard.models.resolve(f"models:/{name}/{version}") for name, version in refs]
        if self._yard.monitors():
            self._yard.monitor_provider.watch(endpoint, models)
        self._yard.plugins.tell("modelyard_after_deploy", yard=self._yard, endpoint=endpoint)
        return endpoint


class Monitoring(Area):
    """What the prediction log says about the project's endpoints."""

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """The scored windows, newest first; scores what is not scored yet.

        Raises:
            NotFoundError: `endpoint-not-found`: there is no such endpoint, and there never was.
        """
        found = self._yard.monitor_provider.windows(endpoint, until=until, limit=limit)
        if not found:
            self._require_known(endpoint)
        return found

    def labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """Store true outcomes that arrived; returns how many.

        Raises:
            NotFoundError: `endpoint-not-found`: a mistyped name would take labels that nobody ever sees.
        """
        self._require_known(endpoint)
        return self._yard.monitor_provider.add_labels(endpoint, labels)

    def find(self, prediction_id: str) -> Prediction:
        """One prediction in the log.

        Raises:
            NotFoundError: `prediction-not-found`.
        """
        return self._yard.monitor_provider.find(prediction_id)

    def alerts(self, endpoint: str) -> list[Alert]:
        """The rules that fire now."""
        return self._yard.monitor_provider.alerts(endpoint)

    def rules(self) -> str:
        """The Prometheus rule file."""
        return self._yard.monitor_provider.rules()

    def metrics(self) -> str:
        """The finished windows in Prometheus' text format."""
        return self._yard.monitor_provider.metrics()

    def report(self, endpoint: str, out: str | Path, *, version: str | None = None) -> Path:
        """Write the human report (HTML) of the newest window with enough rows."""
        return self._yard.monitor_provider.report(endpoint, Path(out), version=version)

    def _require_known(self, endpoint: str) -> None:
        """Labels may come after an endpoint was deleted: then its windows are still there."""
        if not self._yard.serves() or any(e.name == endpoint for e in self._yard.server.endpoints()):
            return
        if not self._yard.monitor_provider.windows(endpoint, limit=1):
            self._yard.server.get(endpoint)
