"""What a cluster's monitor keeps of many projects: apart on disk, together for Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelyard.errors import EXIT_STATUSES, EnvironmentFault, ModelyardError, NotFoundError
from modelyard.stages import Label
from modelyard_evidently import exporter, worker
from modelyard_evidently.areas import Area, areas
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.wire import error_of, labels_in, pieces_of


def test_an_area_is_found_again_under_its_names_whatever_they_hold(tmp_path: Path) -> None:
    names = [("default", "flüge/2013"), ("default", ".."), ("a", "b c"), ("a/b", "c")]
    for namespace, project in names:
        Area(tmp_path, namespace, project).remember(EvidentlySettings())
    assert sorted((a.namespace, a.project) for a in areas(tmp_path)) == sorted(names)
    assert all(tmp_path / "areas" in area.folder.resolve().parents for area in areas(tmp_path))
    with pytest.raises(ValueError):
        Area(tmp_path, "", "p")
    with pytest.raises(ValueError):
        Area(tmp_path, "default", "n" * 300)


def test_settings_are_written_when_they_change_and_only_then(tmp_path: Path) -> None:
    area = Area(tmp_path, "default", "p")
    area.remember(EvidentlySettings(window="hour"))
    file = area.folder / "settings.json"
    before = file.stat().st_mtime_ns
    area.remember(EvidentlySettings(window="hour"))
    assert file.stat().st_mtime_ns == before
    area.remember(EvidentlySettings(window="week"))
    assert json.loads(file.read_text())["window"] == "week"


def test_expositions_of_several_areas_are_one_that_prometheus_reads() -> None:
    ours = [("modelyard_window_rows", {"project": "a\u2028b", "endpoint": "e"}, 1.0)]
    theirs = [("modelyard_window_rows", {"project": "c", "endpoint": 'x"} 7'}, 2.0)]
    marks = [("modelyard_promotion_timestamp_seconds", {"project": "c"}, 3.0)]
    of_later_version = "# TYPE modelyard_unheard_of gauge\nmodelyard_unheard_of 1\n"
    text = exporter.merged([exporter.text(ours), exporter.text([*theirs, *marks]), of_later_version, ""])
    families = list(text_string_to_metric_families(text))
    assert [family.name for family in families] == [
        "modelyard_window_rows",
        "modelyard_promotion_timestamp_seconds",
    ]
    assert [(s.labels["project"], s.value) for s in families[0].samples] == [("a\u2028b", 1.0), ("c", 2.0)]


def test_an_error_is_the_same_on_the_other_side() -> None:
    for kind in {type(error_of({"code": "c", "message": "m", "exit_status": n})) for n in EXIT_STATUSES}:
        fault = kind("some-code", "a sentence", "a hint", details={"names": ["a"]})
        again = error_of(json.loads(json.dumps(fault.to_dict())))
        assert (type(again), again.to_dict()) == (type(fault), fault.to_dict())
    assert type(error_of({"code": "c", "message": "m", "exit_status": 77})) is ModelyardError


def test_labels_are_the_same_on_the_other_side(tmp_path: Path) -> None:
    given = [
        Label(prediction_id=f"p\n{n}", row=n, value=v) for n, v in enumerate((1, 2.5, True, "ä\u2028", ""))
    ]
    file = tmp_path / "labels"
    file.write_bytes(b"".join(pieces_of(iter(given))))
    assert list(labels_in(file)) == given
    assert list(pieces_of([])) == []


def test_a_job_that_fails_says_why_and_the_worker_goes_on(tmp_path: Path) -> None:
    area = Area(tmp_path, "default", "p")
    area.remember(EvidentlySettings())

    def ask(job: str, **given: object) -> ModelyardError:
        said = worker.done({"job": job, "area": [str(tmp_path), "default", "p"], "given": given})
        return error_of(said["error"])

    assert isinstance(ask("find", id="x"), NotFoundError)
    body = tmp_path / "body"
    body.write_text("[{]")
    broken = ask("watch", endpoint="e", body=str(body))
    assert isinstance(broken, EnvironmentFault)
    assert (broken.code, "watch" in broken.message) == ("monitor-failed", True)
    (area.folder / "log").write_text("a file where a folder has to be")
    body.write_text('[{"model": "m", "version": "1", "profile": "{}"}]')
    assert ask("watch", endpoint="e", body=str(body)).code == "write-failed"
