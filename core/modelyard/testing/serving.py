"""What every server must do: the conformance suite of the stage `serving`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from modelyard.errors import ConfigError, EnvironmentFault, NotFoundError, UsageError
from modelyard.records import Endpoint
from modelyard.stages import Server, ServiceSpec
from modelyard.testing.base import StageSuite, at_once, eventually, refusal
from modelyard.testing.contexts import EventCollector, ModelShelf
from modelyard.testing.models import ROWS, save_mlflow_folder
from modelyard.testing.traffic import ANSWERS, WRONG_BODIES, SteadyTraffic, call, shares

MODEL = "late-flights"


class WriteManifest(Protocol):
    """The fixture `manifest`."""

    def __call__(self, name: str, uri: str = ..., *, canary: int | None = ..., **predictor: Any) -> Path:
        """Write the file; `predictor` are further fields of `spec.predictor`."""


class ServingSuite(StageSuite):
    """Subclass it and give the fixture `offer`; override `save_model` and `model_format` if your server
    loads other folders than MLflow's."""

    stage = "serving"
    protocol = Server
    reads = "endpoints"

    # -- what a subclass may replace --------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def save_model(cls) -> Callable[[Path, float], None]:
        """Writes a model folder whose model answers the given value for every row."""
        return save_mlflow_folder

    @pytest.fixture(scope="class")
    @classmethod
    def model_format(cls) -> str:
        """`spec.predictor.model.modelFormat.name` of those folders."""
        return "mlflow"

    @pytest.fixture(scope="class")
    @classmethod
    def collector(cls) -> Iterator[EventCollector]:
        """Takes the events of the prediction log."""
        with EventCollector() as collector:
            yield collector

    @pytest.fixture(scope="class")
    @classmethod
    def event_sink(cls, collector: EventCollector) -> Callable[[], str | None]:
        """What `context.event_sink` gives."""
        return lambda: collector.url

    # -- the stage --------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def models(
        cls,
        shelf: ModelShelf,
        save_model: Callable[[Path, float], None],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> ModelShelf:
        """Versions 1 and 2 of `late-flights`, and `broken`, which no server can load."""
        folder = tmp_path_factory.mktemp("modelle")
        for version, value in ANSWERS.items():
            save_model(folder / version, value)
            shelf.put(MODEL, folder / version)
        (folder / "broken").mkdir()
        (folder / "broken" / "MLmodel").write_text("flavors: {}\n")
        shelf.put("broken", folder / "broken")
        return shelf

    @pytest.fixture(scope="class")
    @classmethod
    def manifest(cls, model_format: str, tmp_path_factory: pytest.TempPathFactory) -> WriteManifest:
        """Writes an InferenceService file (JSON, which is YAML too) and returns its path."""

        def write(
            name: str, uri: str = f"models:/{MODEL}/1", *, canary: int | None = None, **predictor: Any
        ) -> Path:
            content = {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": name},
                "spec": {
                    "predictor": {
                        "logger": {"mode": "all", "metadataHeaders": ["X-Event-Time"]},
                        "model": {"modelFormat": {"name": model_format}, "storageUri": uri},
                        **({} if canary is None else {"canaryTrafficPercent": canary}),
                        **predictor,
                    }
                },
            }
            file = tmp_path_factory.mktemp("manifeste") / f"{name}.yaml"
            file.write_text(json.dumps(content, indent=2), encoding="utf-8")
            return file

        return write

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, provider: Server, models: ModelShelf) -> Server:  # noqa: ARG003 - put on the shelf
        """The server under test; the sample models are there."""
        return provider

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls, server: Server, manifest: WriteManifest) -> Endpoint:
        """An endpoint with version 1, shared by the tests that only ask it."""
        return server.apply(manifest("shared-endpoint"))

    @pytest.fixture
    def name(self, server: Server) -> Iterator[str]:
        """A name that no other endpoint has; the endpoint is deleted after the test."""
        name = f"late-flights-{uuid.uuid4().hex[:8]}"
        yield name
        if name in [endpoint.name for endpoint in server.endpoints()]:
            server.delete(name)

    # -- answering --------------------------------------------------------------------------

    def test_an_applied_endpoint_is_ready(self, endpoint: Endpoint) -> None:
        """The record says where, and which version answers."""
        assert endpoint.ready, f"apply waits until it is ready, but it is not: {endpoint.message}"
        assert endpoint.url, "a ready endpoint has a URL"
        host = urlsplit(endpoint.url).hostname
        assert host in ("127.0.0.1", "localhost"), f"it must listen on this machine only, not on {host}"
        assert endpoint.storage_uri == f"models:/{MODEL}/1", "storage_uri is what the file asks for"
        (revision,) = endpoint.revisions
        assert (revision.model, revision.version) == (MODEL, "1"), "the revision must name what it loaded"
        assert (revision.number, revision.traffic, revision.ready) == (1, 100, True), (
            "the first revision is number 1, ready, with all traffic"
        )

    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    def test_every_row_gets_an_answer(self, endpoint: Endpoint, protocol: Any) -> None:
        """In KServe's V1 and V2 JSON, for rows as objects."""
        answer = endpoint.predict(list(ROWS), protocol=protocol)
        assert list(answer.predictions) == [0.25] * len(ROWS), f"{protocol}: {answer.predictions}"

    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    def test_rows_may_be_lists(self, endpoint: Endpoint, protocol: Any) -> None:
        """In the order of the model's signature."""
        answer = endpoint.predict([list(row.values()) for row in ROWS], protocol=protocol)
        assert list(answer.predictions) == [0.25] * len(ROWS), f"{protocol}: {answer.predictions}"

    def test_a_missing_number_is_null(self, endpoint: Endpoint) -> None:
        """Real rows have holes."""
        answer = endpoint.predict([{"temp": None, "wind speed": 3.0}, *ROWS])
        assert len(answer.predictions) == 1 + len(ROWS), "a row with a missing number needs an answer too"

    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    def test_every_answer_says_who_gave_it(self, endpoint: Endpoint, protocol: Any) -> None:
        """Model, version, revision and request id are headers."""
        answer = endpoint.predict(list(ROWS), protocol=protocol, headers={"X-Request-Id": "frage-1"})
        assert (answer.model, answer.version) == (MODEL, "1"), "X-Modelyard-Model or -Version is wrong"
        assert answer.revision == endpoint.revisions[0].name, "X-Modelyard-Revision is wrong"
        assert answer.id == "frage-1", f"the caller's X-Request-Id must come back, not {answer.id!r}"

    def test_a_request_without_an_id_gets_a_new_one(self, endpoint: Endpoint) -> None:
        """A UUID, another one each time."""
        ids = {endpoint.predict(list(ROWS)).id for _ in range(3)}
        assert len(ids) == 3, f"every request needs its own id, got {ids}"
        for request_id in ids:
            uuid.UUID(request_id)

    @pytest.mark.parametrize(
        "path",
        ["/v1/models/{}", "/v2/models/{}", "/v2/models/{}/ready", "/v2/health/ready"],
        ids=["v1 model", "v2 model", "v2 model ready", "v2 ready"],
    )
    def test_the_protocol_describes_itself(self, endpoint: Endpoint, path: str) -> None:
        """Clients of KServe ask these first."""
        status, _ = call(endpoint, "GET", path.format(endpoint.name))
        assert status == 200, f"GET {path.format(endpoint.name)} answered {status}"

    # -- refusing ---------------------------------------------------------------------------

    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    def test_rows_that_do_not_fit_are_refused(self, endpoint: Endpoint, protocol: Any) -> None:
        """A missing column is the caller's mistake, and the sentence names it."""
        error = refusal(
            UsageError, "prediction-refused", endpoint.predict, [{"temp": 1.0}], protocol=protocol
        )
        assert "wind speed" in error.message, f"the message must name the column: {error}"

    @pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
    def test_a_body_that_is_wrong_is_a_4xx(self, endpoint: Endpoint, body: str) -> None:
        """With a sentence, in both protocols; never a 500."""
        for path in (f"/v1/models/{endpoint.name}:predict", f"/v2/models/{endpoint.name}/infer"):
            status, said = call(endpoint, "POST", path, body.encode())
            assert 400 <= status < 500, f"POST {path} of {body!r} answered {status}: {said[:300]!r}"
            assert b"Traceback" not in said, f"POST {path} of {body!r} shows a traceback"

    def test_an_unknown_model_is_a_404(self, endpoint: Endpoint) -> None:
        """In both protocols."""
        body = json.dumps({"instances": list(ROWS)}).encode()
        for path in ("/v1/models/gibt-es-nicht:predict", "/v2/models/gibt-es-nicht/infer"):
            status, _ = call(endpoint, "POST", path, body)
            assert status == 404, f"POST {path} answered {status}"

    # -- prediction log ---------------------------------------------------------------------

    def test_an_answer_is_logged_as_two_events(self, endpoint: Endpoint, collector: EventCollector) -> None:
        """Request and response, in KServe's CloudEvents, with the same id."""
        headers = {"X-Event-Time": "2013-04-01T06:00:00+00:00"}
        answer = endpoint.predict(list(ROWS), headers=headers)
        events = eventually(
            "the arrival of two events",
            lambda: got if len(got := collector.of(answer.id)) == 2 else None,
        )
        kinds = {event.headers["ce-type"].rpartition(".")[2]: event for event in events}
        assert set(kinds) == {"request", "response"}, f"one event each, not {sorted(kinds)}"
        assert json.loads(kinds["request"].body)["instances"] == list(ROWS), "the raw request is logged"
        assert json.loads(kinds["response"].body)["predictions"] == list(answer.predictions), (
            "the raw answer is logged"
        )
        for kind, event in kinds.items():
            assert event.headers["ce-type"] == f"org.kubeflow.serving.inference.{kind}", (
                "ce-type must say whether it is request or response"
            )
            assert event.headers["ce-specversion"] == "1.0", "the events are CloudEvents 1.0"
            assert event.headers["ce-inferenceservicename"] == endpoint.name, (
                "ce-inferenceservicename must be the endpoint's name"
            )
            assert event.headers["ce-component"] == "predictor", "ce-component must be `predictor`"
            metadata = json.loads(event.headers["ce-metadata"])
            assert {k.lower(): v for k, v in metadata.items()}["x-event-time"] == headers["X-Event-Time"], (
                "the headers of `metadataHeaders` must be in ce-metadata"
            )
            assert json.loads(event.headers["ce-annotations"]) == {
                "modelyard.dev/model": MODEL,
                "modelyard.dev/version": "1",
                "modelyard.dev/revision": answer.revision,
            }, "ce-annotations must name model, version and revision"

    def test_a_refused_request_is_not_logged(self, endpoint: Endpoint, collector: EventCollector) -> None:
        """It was no prediction."""
        refused = f"refused-{uuid.uuid4()}"
        headers = {"X-Request-Id": refused}
        refusal(UsageError, "prediction-refused", endpoint.predict, [{"temp": 1.0}], headers=headers)
        after = endpoint.predict(list(ROWS)).id
        eventually("the log of the next request", lambda: collector.of(after) or None)
        assert not collector.of(refused), "a refused request must not be in the prediction log"

    # -- applying ---------------------------------------------------------------------------

    def test_applying_the_same_file_again_changes_nothing(
        self, server: Server, endpoint: Endpoint, manifest: WriteManifest
    ) -> None:
        """No new revision, no other URL."""
        again = server.apply(manifest(endpoint.name))
        assert again == server.get(endpoint.name), "apply and get must agree"
        assert again.revisions == endpoint.revisions, "the same file again must not make a revision"
        assert again.url == endpoint.url, "the URL must stay"

    def test_a_new_model_is_a_new_revision(self, server: Server, name: str, manifest: WriteManifest) -> None:
        """It gets all traffic, unless the file says otherwise; no request fails meanwhile."""
        server.apply(manifest(name))
        with SteadyTraffic(server.get(name)) as answers:
            after = server.apply(manifest(name, f"models:/{MODEL}/2"))
        assert [r.version for r in after.revisions][:2] == ["2", "1"], "newest revision first"
        assert after.revisions[0].number > after.revisions[1].number, "revisions must be numbered upwards"
        assert after.revisions[0].traffic == 100, "without a canary the new revision gets everything"
        assert shares(after, 20) == {"2": 20}, "after apply only version 2 must answer"
        failed = [answer for answer in answers if answer not in ANSWERS]
        assert answers, "no request was answered while the endpoint was updated"
        assert not failed, f"{len(failed)} of {len(answers)} requests failed during it: {failed[:1]}"

    def test_a_changed_spec_is_a_new_revision(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """Also when the model is the same."""
        server.apply(manifest(name))
        after = server.apply(manifest(name, logger={"mode": "request"}))
        assert [r.number for r in after.revisions][:1] == [2], "another spec must make a revision"
        assert after.revisions[0].version == "1", "the new revision has the same model"

    def test_a_canary_gets_its_percentage(self, server: Server, name: str, manifest: WriteManifest) -> None:
        """The rest goes to the revision before."""
        server.apply(manifest(name))
        split = server.apply(manifest(name, f"models:/{MODEL}/2", canary=20))
        assert [(r.version, r.traffic) for r in split.revisions] == [("2", 20), ("1", 80)], (
            "the canary gets 20 percent, the revision before the rest"
        )
        counted = shares(split, 200)
        assert 10 <= counted["2"] <= 75, f"of 200 requests about 40 must reach the canary, not {counted}"
        assert counted["1"] == 200 - counted["2"], f"every request must be answered: {counted}"

    def test_a_changed_percentage_is_no_new_revision(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """By the file, or by `traffic`: 0 sends everything to the revision before, 100 promotes."""
        server.apply(manifest(name))
        first = server.apply(manifest(name, f"models:/{MODEL}/2", canary=20))
        moved = server.apply(manifest(name, f"models:/{MODEL}/2", canary=60))
        names = [revision.name for revision in first.revisions]
        assert [r.name for r in moved.revisions] == names, "another percentage must not make a revision"
        assert [r.traffic for r in moved.revisions] == [60, 40], (
            "the new percentage must show in the revisions"
        )
        for canary, version in ((0, "1"), (100, "2")):
            moved = server.traffic(name, canary)
            assert moved.revisions[0].traffic == canary, f"traffic({canary}) gave {moved.revisions}"
            assert sum(r.traffic for r in moved.revisions) == 100, "the shares must add up to 100"
            assert shares(moved, 10) == {version: 10}, f"at {canary} only version {version} must answer"

    def test_a_promoted_revision_can_be_sent_back(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """KServe's rollback: 0 percent after 100."""
        server.apply(manifest(name))
        server.apply(manifest(name, f"models:/{MODEL}/2"))
        back = server.traffic(name, 0)
        assert back.revisions[0].traffic == 0, f"the newest revision keeps traffic: {back.revisions}"
        assert shares(back, 10) == {"1": 10}, "at 0 only the revision before must answer"

    def test_an_alias_is_followed_when_reconciled(
        self, server: Server, name: str, manifest: WriteManifest, models: ModelShelf
    ) -> None:
        """And not a moment before; without a move nothing changes."""
        models.point(MODEL, name, "1")
        before = server.apply(manifest(name, f"models:/{MODEL}@{name}"))
        assert before.storage_uri == f"models:/{MODEL}@{name}", "storage_uri is what the file asks for"
        assert server.reconcile(name).revisions == before.revisions, "nothing moved, nothing may change"
        models.point(MODEL, name, "2")
        assert server.get(name).revisions == before.revisions, "only reconcile may follow the alias"
        after = server.reconcile(name)
        assert [r.version for r in after.revisions][:2] == ["2", "1"], "reconcile must follow the alias"
        assert shares(after, 10) == {"2": 10}, "after reconcile only version 2 must answer"

    def test_a_revision_that_fails_leaves_the_old_one_answering(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """The error says why; the endpoint is as before."""
        before = server.apply(manifest(name))
        refusal(EnvironmentFault, "revision-failed", server.apply, manifest(name, "models:/broken/1"))
        after = server.get(name)
        assert shares(after, 10) == {"1": 10}, "the old revision must still answer"
        assert [r.version for r in after.revisions if r.traffic] == ["1"], (
            "only the old revision may have traffic"
        )
        assert after.url == before.url, "the URL must stay"
        assert all(r.failed and r.message for r in after.revisions if r.model == "broken"), (
            "a revision that failed must say so, and why: or `modelyard up` waits for it"
        )
        server.apply(manifest(name, f"models:/{MODEL}/2"))
        assert shares(server.get(name), 10) == {"2": 10}, "a good file must work after a bad one"

    # -- explaining -------------------------------------------------------------------------

    def test_conditions_say_what_is_so(self, endpoint: Endpoint) -> None:
        """In KServe's words, and since when."""
        found = {condition.type: condition for condition in endpoint.conditions}
        assert {"Ready", "PredictorReady", "RoutesReady"} <= found.keys(), f"conditions lack some: {found}"
        assert {one.status for one in found.values()} == {"True"}, f"a ready endpoint has them met: {found}"
        since = found["Ready"].since
        assert since is not None, "a condition says since when it is so"
        assert since.utcoffset() is not None, "times are aware"

    def test_a_revision_that_fails_is_explained(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """By an event with its reason, while the endpoint itself is shown as it is."""
        server.apply(manifest(name))
        before = server.explain(name)
        assert before.settled, f"nothing is under way, but {before}"
        refusal(EnvironmentFault, "revision-failed", server.apply, manifest(name, "models:/broken/1"))
        after = server.explain(name)
        assert after.endpoint == server.get(name), "explain and get must agree"
        told = [event for event in after.events if event.type == "Warning" and event not in before.events]
        assert told, f"no event tells of the failure: {after.events}"
        assert all(event.reason and event.message and event.count > 0 for event in told)
        assert list(after.events) == sorted(after.events, key=lambda event: event.time), "oldest first"
        for revision in after.endpoint.revisions:
            if revision.failed:
                assert after.logs.get(revision.name), f"the last lines of {revision.name} must be there"

    def test_what_answers_is_named(self, server: Server, endpoint: Endpoint) -> None:
        """At least one process for the revision with traffic."""
        found = server.explain(endpoint.name).replicas
        ready = [one for one in found if one.revision == endpoint.revisions[0].name and one.ready]
        assert ready, f"something answers for {endpoint.revisions[0].name}, but {found} says nothing of it"

    def test_one_document_of_a_file_is_applied_by_its_text(
        self, server: Server, name: str, manifest: WriteManifest, tmp_path: Path
    ) -> None:
        """The file is only its name then; who waits for it is told how it goes."""
        told: list[Endpoint] = []
        text = manifest(name).read_text()
        made = server.apply(tmp_path / "viele.yaml", text=text, progress=told.append)
        assert made.ready, made.message
        assert {one.name for one in told} == {name}, "progress is told the endpoint while it is made"
        error = refusal(ConfigError, "manifest-invalid", server.apply, tmp_path / "viele.yaml", text="[1]")
        assert "viele.yaml" in error.message, f"the file must be named: {error}"

    # -- invalid files ----------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("change", "path", "meant"),
        [
            ({"replicas": 2}, "spec.predictor.replicas", "eplicas"),
            ({"canaryTraficPercent": 5}, "spec.predictor.canaryTraficPercent", "canaryTrafficPercent"),
            ({"model": {"storageUrl": "x"}}, "spec.predictor.model.storageUrl", "storageUri"),
        ],
        ids=["replicas", "canary", "uri"],
    )
    def test_an_unknown_field_is_refused(
        self, server: Server, name: str, manifest: WriteManifest, change: Any, path: str, meant: str
    ) -> None:
        """With its path, and the name that was meant."""
        error = refusal(ConfigError, "manifest-invalid", server.apply, manifest(name, **change))
        assert path in error.message, f"the message must hold the path {path}: {error}"
        said = f"{error.message} {error.hint}".replace(path, "")
        assert meant in said, f"the error must name what was meant ({meant}): {said}"
        refusal(NotFoundError, "endpoint-not-found", server.get, name)

    def test_what_is_wrong_in_a_file_is_found_without_applying_it(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """A good file has no errors; one of an unknown field names it."""
        good = server.lint(manifest(name).read_text(), "gut.yaml")
        assert [one for one in good if one.level == "error"] == []
        bad = server.lint(manifest(name, replicas=2).read_text(), "schlecht.yaml")
        wrong = [one for one in bad if one.level == "error"]
        assert wrong, "an unknown field must be found"
        assert all(one.file == "schlecht.yaml" and one.line > 0 for one in wrong)
        assert any("spec.predictor.replicas" in f"{one.field} {one.message}" for one in wrong)
        refusal(NotFoundError, "endpoint-not-found", server.get, name)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[1, 2]",
            "{unclosed: [",
            '{"apiVersion": "serving.kserve.io/v1beta1", "kind": "Service", "metadata": {"name": "x"}}',
            '{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "spec": {}}',
        ],
        ids=["empty", "list", "torn", "kind", "nameless"],
    )
    def test_a_file_that_is_no_inference_service_is_refused(
        self, server: Server, tmp_path: Path, content: str
    ) -> None:
        """Empty, not a mapping, not YAML, another kind, no name."""
        file = tmp_path / "ein dienst.yaml"
        file.write_text(content)
        refusal(ConfigError, "manifest-invalid", server.apply, file)

    @pytest.mark.parametrize("canary", [101, -1, "viel"])
    def test_a_percentage_that_is_none_is_refused(
        self, server: Server, name: str, manifest: WriteManifest, canary: Any
    ) -> None:
        """It goes from 0 to 100."""
        error = refusal(ConfigError, "manifest-invalid", server.apply, manifest(name, canary=canary))
        assert "canaryTrafficPercent" in error.message, f"the message must name the field: {error}"

    # -- looking and ending -----------------------------------------------------------------

    def test_an_unknown_endpoint_is_not_found(self, server: Server) -> None:
        """By every method that takes its name."""
        refusal(NotFoundError, "endpoint-not-found", server.get, "gibt-es-nicht")
        refusal(NotFoundError, "endpoint-not-found", server.delete, "gibt-es-nicht")
        refusal(NotFoundError, "endpoint-not-found", server.reconcile, "gibt-es-nicht")
        refusal(NotFoundError, "endpoint-not-found", server.traffic, "gibt-es-nicht", 50)
        refusal(NotFoundError, "endpoint-not-found", server.statistics, "gibt-es-nicht")
        refusal(NotFoundError, "endpoint-not-found", server.explain, "gibt-es-nicht")
        refusal(NotFoundError, "endpoint-not-found", server.token, "gibt-es-nicht")

    def test_a_new_project_has_no_endpoints(self, fresh: Server) -> None:
        """Empty lists, no errors."""
        assert fresh.endpoints() == [], "a new project has no endpoints"
        assert list(fresh.services()) == [], "without endpoints there is nothing to start"

    def test_endpoints_are_listed_by_name_until_they_are_deleted(
        self, server: Server, endpoint: Endpoint, name: str, manifest: WriteManifest
    ) -> None:
        """A deleted one answers no more, and its name is free."""
        made = server.apply(manifest(name))
        listed = [each.name for each in server.endpoints()]
        assert listed == sorted(listed), "endpoints must be sorted by name"
        assert {name, endpoint.name} <= set(listed), "all endpoints must be listed"
        server.delete(name)
        assert name not in [each.name for each in server.endpoints()], "a deleted endpoint must not be listed"
        refusal(NotFoundError, "endpoint-not-found", server.get, name)
        refusal(EnvironmentFault, "endpoint-unreachable", made.predict, list(ROWS))
        again = server.apply(manifest(name, f"models:/{MODEL}/2"))
        assert shares(again, 5) == {"2": 5}, "the name must be free again"
        assert len(again.revisions) == 1, "nothing of the deleted endpoint may come back"

    def test_the_log_is_bounded(self, server: Server, endpoint: Endpoint) -> None:
        """Lines of text, at most as many as asked for."""
        for _ in range(3):
            endpoint.predict(list(ROWS))
        lines = list(server.logs(endpoint.name, lines=2))
        assert len(lines) <= 2, f"two lines were asked for, not {len(lines)}"
        assert all(isinstance(line, str) and not line.endswith("\n") for line in lines), (
            "log lines are texts without line ends"
        )

    def test_the_access_log_is_bounded(self, server: Server, endpoint: Endpoint) -> None:
        """JSON objects, at most as many as asked for; or it says that requests are not logged."""
        for _ in range(3):
            endpoint.predict(list(ROWS))
        code, lines = "no-access-log", []
        try:
            lines = list(server.access_log(endpoint.name, lines=2))
        except UsageError as fault:
            code = fault.code
        assert code == "no-access-log", f"the code is no-access-log, not {code}"
        assert len(lines) <= 2, f"two lines were asked for, not {len(lines)}"
        for line in lines:
            missing = {"time", "method", "path", "status", "request_id"} - json.loads(line).keys()
            assert not missing, f"a line of the access log lacks {sorted(missing)}"

    @pytest.mark.usefixtures("endpoint")
    def test_services_are_those_of_the_endpoints(self, server: Server) -> None:
        """`modelyard up` starts them; their names are unique."""
        specs = server.services()
        names = [spec.name for spec in specs]
        assert all(isinstance(spec, ServiceSpec) for spec in specs), "services must be ServiceSpec records"
        assert len(set(names)) == len(names), f"two services have one name: {names}"

    # -- several at once --------------------------------------------------------------------

    def test_another_instance_sees_the_endpoint(
        self, endpoint: Endpoint, reopen: Callable[[], Server]
    ) -> None:
        """And asks the same processes."""
        found = reopen().get(endpoint.name)
        assert found.url == endpoint.url, "another instance must find the running endpoint"
        assert found.revisions == endpoint.revisions, "another instance must see the same revisions"
        assert list(found.predict(list(ROWS)).predictions) == [0.25] * len(ROWS), (
            "the endpoint that another instance found must answer"
        )

    def test_requests_at_the_same_time_are_all_answered(self, endpoint: Endpoint) -> None:
        """Each with its own id and its own number of rows."""

        def ask(number: int) -> tuple[str, int]:
            answer = endpoint.predict([ROWS[0]] * number, headers={"X-Request-Id": f"zugleich-{number}"})
            return answer.id, len(answer.predictions)

        got = at_once(*(lambda n=n: ask(n) for n in range(1, 21)))
        assert got == [(f"zugleich-{n}", n) for n in range(1, 21)], "answers got mixed up"

    def test_answers_are_counted_per_revision(
        self, server: Server, name: str, manifest: WriteManifest
    ) -> None:
        """Requests, those that were refused, errors, and how long they took."""
        endpoint = server.apply(manifest(name))
        assert sum(one.requests for one in server.statistics(name)) == 0, "nobody asked it yet"
        for _ in range(3):
            endpoint.predict(list(ROWS))
        call(endpoint, "POST", f"/v1/models/{name}:predict", b"{")
        (counted,) = server.statistics(name)
        assert counted.revision == endpoint.revisions[0].name, "counts must name their revision"
        assert (counted.requests, counted.refused, counted.errors) == (4, 1, 0), (
            f"three answers and a refusal were counted as {counted}"
        )
        assert counted.p50 is not None, "the median of four answers is known"
        assert counted.p95 is not None, "so is the 95th percentile"
        assert 0 < counted.p50 <= counted.p95 < 60, f"they are seconds: {counted}"

    def test_records_survive_json(self, endpoint: Endpoint) -> None:
        """`--json` prints them, and other tools read that."""
        assert Endpoint.from_dict(json.loads(json.dumps(endpoint.to_dict()))) == endpoint, (
            "the endpoint does not survive JSON"
        )
