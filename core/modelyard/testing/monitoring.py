"""What every monitor must do: the conformance suite of the stage `monitoring`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.errors import NotFoundError
from modelyard.records import Endpoint, ModelVersion, Prediction, Revision, Window, now
from modelyard.stages import Label, Monitor, Reference, ResolvedModel, ServiceSpec
from modelyard.testing.base import StageSuite, eventually, refusal
from modelyard.testing.feed import MODEL, START, Feed, labels_of, late, probability, rows

#: A sample in Prometheus' text format.
SAMPLE = re.compile(
    r"[a-zA-Z_:][a-zA-Z0-9_:]*"
    r'(\{[a-zA-Z_]\w*="([^"\\\n]|\\.)*"(,[a-zA-Z_]\w*="([^"\\\n]|\\.)*")*,?\})?'
    r" ([+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?Inf|NaN)( \d+)?"
)


class MonitoringSuite(StageSuite):
    """Subclass it and give the fixture `offer`; say with `window` and `enough_rows` how long a window is
    and how many rows it needs, and set both with `provider_settings` where the default is larger."""

    stage = "monitoring"
    protocol = Monitor
    reads = "metrics"

    # -- what a subclass may replace --------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def window(cls) -> timedelta:
        """The length of a window; windows start at whole multiples of it since 1970."""
        return timedelta(days=1)

    @pytest.fixture(scope="class")
    @classmethod
    def enough_rows(cls) -> int:
        """A number of rows that suffices to judge a window."""
        return 300

    # -- the stage --------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls) -> Reference:
        """2,000 labelled rows with predictions and times over 40 days."""
        import pandas as pd

        sample = rows(2000, seed=1)
        return Reference(
            features=pd.DataFrame(sample),
            labels=[late(row) for row in sample],
            predictions=[probability(row) for row in sample],
            times=[START - timedelta(days=40) + timedelta(minutes=28) * n for n in range(2000)],
        )

    @pytest.fixture(scope="class")
    @classmethod
    def profile(cls, provider: Monitor, reference: Reference) -> Mapping[str, Any]:
        """The profile of the reference."""
        return provider.profile(reference)

    @pytest.fixture(scope="class")
    @classmethod
    def models(
        cls, profile: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
    ) -> list[ResolvedModel]:
        """Versions 1 and 2 of the sample model, with the profile in their folders."""
        found = []
        for number in ("1", "2"):
            folder = tmp_path_factory.mktemp("modell")
            (folder / "profile.json").write_text(json.dumps(profile, allow_nan=False))
            version = ModelVersion(name=MODEL, version=number, uri=folder.as_uri(), created=now())
            found.append(ResolvedModel(version=version, path=folder))
        return found

    @pytest.fixture
    def monitor(self, provider: Monitor) -> Monitor:
        """The monitor under test."""
        return provider

    @pytest.fixture
    def endpoint(self, monitor: Monitor, models: list[ResolvedModel]) -> Endpoint:
        """A watched endpoint of its own for each test."""
        name = f"late-flights-{uuid.uuid4().hex[:8]}"
        endpoint = Endpoint(
            name=name,
            url="http://127.0.0.1:1",
            ready=True,
            storage_uri=f"models:/{MODEL}@production",
            created=now(),
            revisions=tuple(
                Revision(
                    name=f"{name}-0000{number}",
                    number=number,
                    model=MODEL,
                    version=str(number),
                    storage_uri=f"models:/{MODEL}/{number}",
                    traffic=50,
                    ready=True,
                    created=now(),
                )
                for number in (2, 1)
            ),
        )
        monitor.watch(endpoint, models)
        return endpoint

    @pytest.fixture
    def feed(self, monitor: Monitor, endpoint: Endpoint) -> Feed:
        """Sends answered requests to the monitor's sink, as a server would."""
        return Feed(monitor, endpoint)

    # -- profile ----------------------------------------------------------------------------

    def test_a_profile_is_json_and_always_the_same(
        self, monitor: Monitor, reference: Reference, profile: Mapping[str, Any]
    ) -> None:
        """It is stored with the model, which has a digest."""
        text = json.dumps(profile, allow_nan=False)
        again = json.dumps(monitor.profile(reference), allow_nan=False)
        assert again == text, "the same reference must give the same profile"

    def test_a_profile_needs_only_features(self, monitor: Monitor, reference: Reference) -> None:
        """Without labels and predictions there is no quality, but drift."""
        json.dumps(monitor.profile(Reference(features=reference.features)), allow_nan=False)

    def test_a_profile_survives_holes(self, monitor: Monitor, reference: Reference) -> None:
        """Missing values, and a column of one value."""
        frame = reference.features.copy()
        frame.loc[::3, "temp"] = None
        frame["immer gleich"] = 1.0
        json.dumps(monitor.profile(Reference(features=frame)), allow_nan=False)

    # -- prediction log ---------------------------------------------------------------------

    def test_the_sink_listens_on_this_machine_only(self, monitor: Monitor) -> None:
        """And asking twice starts it once."""
        sink = monitor.event_sink()
        if sink is None:
            pytest.skip("this monitor takes no events")
        host = urlsplit(sink).hostname
        assert host in ("127.0.0.1", "localhost"), f"it must listen on this machine only, not on {host}"
        assert monitor.event_sink() == sink, "asking again must give the same sink"

    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    def test_a_prediction_is_found_by_its_id(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, protocol: str
    ) -> None:
        """With endpoint, revision, model, version, rows and event time."""
        time = START + timedelta(hours=6, minutes=30)
        sent = feed.send(rows(3, seed=2), time=time, version="2", protocol=protocol)
        found = eventually("the prediction's arrival in the log", lambda: monitor.find(sent))
        assert found == Prediction(
            id=sent,
            time=time,
            endpoint=endpoint.name,
            revision=f"{endpoint.name}-00002",
            model=MODEL,
            version="2",
            rows=3,
        ), "the prediction is not found as it was sent"

    def test_without_an_event_time_the_time_of_the_event_counts(self, monitor: Monitor, feed: Feed) -> None:
        """`ce-time`, when the server answered."""
        sent = feed.send(rows(1, seed=2), time=None)
        found = eventually("the prediction's arrival in the log", lambda: monitor.find(sent))
        assert abs(now() - found.time) < timedelta(minutes=1), f"the time is now, not {found.time}"

    def test_an_unknown_prediction_is_not_found(self, monitor: Monitor) -> None:
        """A UUID of nobody."""
        refusal(NotFoundError, "prediction-not-found", monitor.find, str(uuid.uuid4()))

    def test_a_request_without_an_answer_is_no_prediction(self, monitor: Monitor, feed: Feed) -> None:
        """The log holds what was answered."""
        alone = feed.send(rows(1, seed=2), time=START, only="request")
        after = feed.send(rows(1, seed=2), time=START)
        eventually("the next prediction's arrival in the log", lambda: monitor.find(after))
        refusal(NotFoundError, "prediction-not-found", monitor.find, alone)

    def test_an_event_that_comes_twice_counts_once(self, feed: Feed, window: timedelta) -> None:
        """Senders repeat what they are not sure of."""
        sent = feed.send(rows(4, seed=3), time=START)
        feed.send(rows(4, seed=3), time=START, prediction_id=sent)
        (found,) = feed.windows(until=START + window, rows=4)
        assert found.rows == 4, f"4 rows were predicted, not {found.rows}"

    # -- windows ----------------------------------------------------------------------------

    def test_an_endpoint_without_predictions_has_no_windows(
        self, monitor: Monitor, endpoint: Endpoint
    ) -> None:
        """An empty list, no error, and nothing in the metrics breaks."""
        assert monitor.windows(endpoint.name) == [], "without predictions there are no windows"
        assert isinstance(monitor.metrics(), str), "the metrics must work without windows"

    def test_only_closed_windows_are_listed_and_the_newest_first(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta
    ) -> None:
        """A window is closed when its end has come."""
        for number in range(3):
            feed.send(rows(5 + number, seed=number), time=START + number * window + window / 3)
        found = feed.windows(until=START + 2.5 * window, rows=11)
        assert [each.rows for each in found] == [6, 5], "two closed windows, the newest first"
        for each, start in zip(found, (START + window, START)):
            assert (each.start, each.end) == (start, start + window), "windows lie on a fixed grid"
        newest = monitor.windows(endpoint.name, until=START + 3 * window, limit=1)
        assert [each.rows for each in newest] == [7], "a limit of 1 must keep the newest"

    def test_each_version_has_windows_of_its_own(self, feed: Feed, window: timedelta) -> None:
        """A canary must not hide behind the stable version."""
        feed.send(rows(5, seed=1), time=START, version="1")
        feed.send(rows(3, seed=2), time=START, version="2")
        found = feed.windows(until=START + window, rows=8)
        assert {each.version: each.rows for each in found} == {"1": 5, "2": 3}, (
            "each version must have its own rows"
        )

    def test_the_same_question_gives_the_same_windows(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """Nothing is scored twice, and another instance agrees."""
        feed.send(rows(enough_rows, seed=5), time=START)
        found = feed.windows(until=START + window, rows=enough_rows)
        assert monitor.windows(endpoint.name, until=START + window) == found, (
            "the same question must give the same windows"
        )

    def test_few_rows_are_not_enough(self, feed: Feed, window: timedelta, enough_rows: int) -> None:
        """And then nothing is called drift."""
        feed.send(rows(2, seed=5, temp=60.0), time=START)
        feed.send(rows(enough_rows, seed=6), time=START + window)
        many, few = feed.windows(until=START + 2 * window, rows=enough_rows + 2)
        assert many.enough, f"{enough_rows} rows must be enough"
        assert not few.enough, "two rows can't be enough"

    # -- drift ------------------------------------------------------------------------------

    def test_a_shifted_column_drifts_and_the_others_do_not(
        self, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """Every column of the reference has a score."""
        feed.send(rows(enough_rows, seed=7, temp=40.0), time=START)
        (found,) = feed.windows(until=START + window, rows=enough_rows)
        scores = {column.column: column for column in found.columns}
        assert {"temp", "wind speed", "carrier"} <= set(scores), "every column must be scored"
        assert found.drifted == ("temp",), f"`temp` alone was shifted, but drifted are {found.drifted}"
        assert scores["temp"].score is not None, "a column that can be scored needs a score"
        assert all(column.error is None for column in found.columns), "no column is bad, so none has an error"

    def test_what_is_like_the_reference_does_not_drift(
        self, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """An alarm that rings every day is switched off."""
        feed.send(rows(enough_rows, seed=8), time=START)
        (found,) = feed.windows(until=START + window, rows=enough_rows)
        assert found.drifted == (), f"nothing changed, but drifted are {found.drifted}"

    @pytest.mark.parametrize("trouble", ["missing", "absent", "words"])
    def test_a_bad_column_never_hides_the_others(
        self, feed: Feed, window: timedelta, enough_rows: int, trouble: str
    ) -> None:
        """All its values are null, or it is not sent, or they are words where numbers were."""
        bad: dict[str, Any] = {
            "missing": {"wind speed": None},
            "absent": {},
            "words": {"wind speed": "viel"},
        }
        sample = [{**row, **bad[trouble]} for row in rows(enough_rows, seed=9, temp=40.0)]
        if trouble == "absent":
            sample = [{k: v for k, v in row.items() if k != "wind speed"} for row in sample]
        feed.send(sample, time=START)
        (found,) = feed.windows(until=START + window, rows=enough_rows)
        scores = {column.column: column for column in found.columns}
        assert scores["temp"].drifted, "the drift of `temp` is hidden by a bad column"
        assert scores["carrier"].score is not None, "the score of `carrier` is hidden by a bad column"
        wind = scores.get("wind speed")
        assert wind is not None, "the bad column must be listed"
        assert wind.drifted or wind.error, "the bad column must be flagged or say what is wrong with it"
        assert (wind.score is None) == (wind.error is not None), "without a score there must be an error"

    # -- labels and quality -----------------------------------------------------------------

    def test_late_labels_give_quality(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """After the window was scored without them; with the measures of the reference."""
        sample = rows(enough_rows, seed=10)
        sent = feed.send(sample, time=START)
        (before,) = feed.windows(until=START + window, rows=enough_rows)
        assert (before.labelled, dict(before.quality)) == (0, {}), "there are no labels yet"
        stored = monitor.add_labels(endpoint.name, labels_of(sent, sample))
        assert stored == enough_rows, f"{enough_rows} labels were given, {stored} stored"
        (after,) = monitor.windows(endpoint.name, until=START + window)
        assert after.labelled == enough_rows, f"{enough_rows} rows have labels, not {after.labelled}"
        assert after.quality, "with labels there must be quality"
        assert set(after.quality) <= set(after.quality_reference), "the reference must have these measures"

    def test_the_last_label_of_a_row_wins_and_counts_once(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """Corrections arrive; and the same file is loaded twice."""
        sample = rows(enough_rows, seed=11)
        sent = feed.send(sample, time=START)
        feed.windows(until=START + window, rows=enough_rows)
        right = labels_of(sent, sample)
        wrong = [Label(prediction_id=sent, row=label.row, value=1 - int(label.value)) for label in right]
        monitor.add_labels(endpoint.name, right)
        (good,) = monitor.windows(endpoint.name, until=START + window)
        monitor.add_labels(endpoint.name, iter(wrong))
        (bad,) = monitor.windows(endpoint.name, until=START + window)
        monitor.add_labels(endpoint.name, right)
        (again,) = monitor.windows(endpoint.name, until=START + window)
        assert {w.labelled for w in (good, bad, again)} == {enough_rows}, "a row's labels count once"
        assert dict(bad.quality) != dict(good.quality), "the corrected labels were not used"
        assert dict(again.quality) == pytest.approx(dict(good.quality)), "the last label must win"

    def test_some_labels_are_counted_as_some(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """And no label at all is nothing stored."""
        sample = rows(enough_rows, seed=12)
        sent = feed.send(sample, time=START)
        feed.windows(until=START + window, rows=enough_rows)
        assert monitor.add_labels(endpoint.name, []) == 0, "no labels given, none stored"
        monitor.add_labels(endpoint.name, labels_of(sent, sample)[: enough_rows // 2])
        (found,) = monitor.windows(endpoint.name, until=START + window)
        assert found.labelled == enough_rows // 2, "half of the rows have labels"

    # -- what people and tools see ----------------------------------------------------------

    def test_lasting_drift_raises_an_alert(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """One that is silent for an endpoint without drift."""
        for number in range(3):
            shifted = rows(enough_rows, seed=number, temp=40.0)
            feed.send(shifted, time=START + number * window)
        feed.windows(until=START + 3 * window, rows=3 * enough_rows)
        loud = [alert for alert in monitor.alerts(endpoint.name) if "drift" in alert.name.lower()]
        assert loud, "three windows with drift must raise an alert with `drift` in its name"
        assert all(alert.evaluator and alert.severity and alert.summary for alert in loud), (
            "an alert needs evaluator, severity and summary"
        )

    def test_without_drift_no_drift_alert(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """Three quiet windows."""
        for number in range(3):
            feed.send(rows(enough_rows, seed=20 + number), time=START + number * window)
        feed.windows(until=START + 3 * window, rows=3 * enough_rows)
        loud = [alert.name for alert in monitor.alerts(endpoint.name) if "drift" in alert.name.lower()]
        assert not loud, f"nothing drifted, but these fire: {loud}"

    def test_the_metrics_are_prometheus_text(
        self, monitor: Monitor, endpoint: Endpoint, feed: Feed, window: timedelta, enough_rows: int
    ) -> None:
        """Every line parses, every sample is unique, and the endpoint is in it."""
        feed.send(rows(enough_rows, seed=13), time=START)
        feed.windows(until=START + window, rows=enough_rows)
        text = monitor.metrics()
        assert text.endswith("\n"), "the last line must end"
        samples = [line for line in text.splitlines() if line and not line.startswith("#")]
        for line in samples:
            assert SAMPLE.fullmatch(line), f"this is no line of Prometheus' text format: {line!r}"
        keys = [line.rpartition(" ")[0] for line in samples]
        assert len(set(keys)) == len(keys), "a sample is there twice"
        assert any(f'"{endpoint.name}"' in line for line in samples), "the endpoint has no sample"

    def test_the_rules_are_a_rule_file(self, monitor: Monitor) -> None:
        """Groups with alerts, in YAML."""
        yaml = pytest.importorskip("yaml")
        groups = yaml.safe_load(monitor.rules())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        alerts = [rule for rule in rules if "alert" in rule]
        assert alerts, "there must be an alert rule"
        assert all(rule.get("expr") for rule in rules), "every rule needs an expression"

    def test_the_report_is_a_page(
        self,
        monitor: Monitor,
        endpoint: Endpoint,
        feed: Feed,
        window: timedelta,
        enough_rows: int,
        tmp_path: Path,
    ) -> None:
        """Written where it was asked for."""
        feed.send(rows(enough_rows, seed=14), time=START)
        feed.windows(until=START + window, rows=enough_rows)
        out = tmp_path / "ein bericht.html"
        assert monitor.report(endpoint.name, out) == out, "`report` must return the file it was given"
        assert "<html" in out.read_text(encoding="utf-8").lower(), "the report must be HTML"

    def test_services_have_names_of_their_own(self, monitor: Monitor) -> None:
        """`modelyard up` starts them."""
        specs = monitor.services()
        names = [spec.name for spec in specs]
        assert all(isinstance(spec, ServiceSpec) for spec in specs), "services must be ServiceSpec records"
        assert len(set(names)) == len(names), f"two services have one name: {names}"

    # -- several at once --------------------------------------------------------------------

    def test_another_instance_sees_the_same(
        self,
        endpoint: Endpoint,
        feed: Feed,
        window: timedelta,
        enough_rows: int,
        reopen: Callable[[], Monitor],
    ) -> None:
        """Predictions, labels and windows."""
        sample = rows(enough_rows, seed=15)
        sent = feed.send(sample, time=START)
        feed.windows(until=START + window, rows=enough_rows)
        other = reopen()
        assert other.find(sent).rows == enough_rows, "another instance must find the prediction"
        assert other.event_sink() == feed.sink, "both must collect in one place"
        other.add_labels(endpoint.name, labels_of(sent, sample))
        (found,) = reopen().windows(endpoint.name, until=START + window)
        assert found.labelled == enough_rows, "another instance must see the labels"

    def test_records_survive_json(self, feed: Feed, window: timedelta, enough_rows: int) -> None:
        """`--json` prints them, and other tools read that."""
        feed.send(rows(enough_rows, seed=16), time=START)
        (found,) = feed.windows(until=START + window, rows=enough_rows)
        assert Window.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found, (
            "the window does not survive JSON"
        )
