"""The whole way: a project on sqlite and folders, and afterwards on a server with a password and on S3."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.audit import audit
from modelyard.digests import manifest, model_digest
from modelyard.errors import EnvironmentFault
from modelyard.ledger import Ledger
from modelyard.records import Metric, Run
from modelyard.shipping.known import MARK
from modelyard.shipping.records import Progress

pytest.importorskip("mlflow")
pytest.importorskip("dvc_s3")
pytestmark = pytest.mark.slow


def comparable(metrics: list[Metric]) -> list[tuple[Any, ...]]:
    """Not a number is equal to nothing, not even to itself."""
    return sorted((m.name, m.step, m.time, repr(m.value)) for m in metrics)


def secrets_in(folder: Path) -> list[Path]:
    """The files that hold a password, except the one that says where the services are."""
    secrets = [b"hush/hush", b"hush%2Fhush", b"s3cret+never"]
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "cluster.json")
    return [file for file in files if any(secret in file.read_bytes() for secret in secrets)]


def test_everything_arrives(project: Any) -> None:
    data = project.add_data("flights", bytes(range(256)) * 500)
    versions = [project.train(value, use=[data]) for value in (1.0, 2.0)]
    project.here.promote(versions[0], to="production", reason="first")
    project.here.promote(versions[1], to="production", reason="better")
    project.here.promote(versions[0], to="staging-2_b", reason="to compare")
    status, said, errors = project.run("ship", "--to", "cluster", "--json")
    assert (status, errors) == (0, ""), errors
    shipped = json.loads(said)
    assert [item["state"] for item in (*shipped["data"], *shipped["versions"])] == ["new"] * 3
    here, there = project.here, project.there

    ref = there.data.get("flights")
    assert (ref.published, ref.digest, ref.remote) == (True, data.digest, there.data.remote())
    stored = project.gateway.objects("dvc")
    key = f"{project.root.parent.name}/files/md5/{data.version[:2]}/{data.version[2:]}"
    assert stored[key] == bytes(range(256)) * 500

    for version in versions:
        copy = there.models.get(version.ref)
        assert model_digest(there.models.path(copy)) == version.digest, "other bytes arrived"
        assert (copy.digest, copy.lineage_id, copy.signature) == (version.digest, version.lineage_id, True)
        assert MARK in copy.tags
        assert copy.run_id is not None
        same_run(here.runs.get(version.run_id or ""), there.runs.get(copy.run_id))
        assert comparable(there.tracker.metrics(copy.run_id)) == comparable(
            here.tracker.metrics(version.run_id or "")
        )
        assert manifest(there.tracker.files(copy.run_id)) == manifest(
            here.tracker.files(version.run_id or "")
        )
    assert there.registry.address(versions[0]).startswith("s3://mlflow/"), "where pods fetch it"

    assert {a: there.registry.alias(project.model, a) for a in ("production", "staging-2_b")} == {
        "production": "2",
        "staging-2_b": "1",
    }
    told = [(p.reason, p.to_version, p.origin) for p in there.history(project.model)]
    assert told == [("to compare", "1", "local"), ("better", "2", "local"), ("first", "1", "local")]
    chains = [Ledger(yard.state / "ledger", project.model).events() for yard in (here, there)]
    assert chains[1][-1]["event"]["sha256"] == chains[0][-1]["sha256"], "the head is in the other chain"
    assert faults(project) == []
    tree = there.lineage(f"{project.model}@production").tree()
    assert "promoted to production" in tree
    assert "(on local): better" in tree
    assert "data/flights.bin" in tree


def faults(project: Any) -> list[Any]:
    """What the audit says about the project's own models: others use the server, too."""
    mark = project.model.split()[-1]
    return [finding for finding in audit(project.there) if mark in finding["model"]]


def same_run(original: Run, copy: Run) -> None:
    for name in ("name", "status", "started", "ended", "user", "params", "code", "environment"):
        assert getattr(copy, name) == getattr(original, name), name
    assert dict(copy.tags) == {**original.tags, MARK: original.id}
    assert copy.metrics.keys() == original.metrics.keys()
    assert math.isnan(copy.metrics["broken"])
    assert len(copy.models) == len(original.models) == 1
    (use,), (was,) = copy.data, original.data
    assert (use.role, use.ref.version, use.ref.digest) == (was.role, was.ref.version, was.ref.digest)
    assert use.ref.published


def test_a_second_ship_has_nothing_to_do(project: Any) -> None:
    data = project.add_data("flights", b"x" * 1000)
    project.here.promote(project.train(1.0, use=[data]), to="production", reason="first")
    project.here.ship("cluster")
    before = project.gateway.objects("mlflow"), project.gateway.objects("dvc")
    runs = [run.id for run in project.there.runs.list()]
    ledger = (project.there.state / "ledger").glob("*.jsonl")
    events = {file: file.read_bytes() for file in ledger}
    status, said, _ = project.run("ship", "--to", "cluster")
    assert status == 0
    assert "everything is on cluster already" in said
    assert (project.gateway.objects("mlflow"), project.gateway.objects("dvc")) == before
    assert [run.id for run in project.there.runs.list()] == runs
    assert {file: file.read_bytes() for file in events} == events


def test_a_dry_run_leaves_no_trace_there(project: Any) -> None:
    import mlflow

    data = project.add_data("flights", b"x" * 12345)
    project.here.promote(project.train(1.0, use=[data]), to="production", reason="first")
    before = project.gateway.objects("mlflow"), project.gateway.objects("dvc")
    status, said, errors = project.run("ship", "--to", "cluster", "--dry-run")
    assert (status, errors) == (0, "")
    assert "flights" in said
    assert "12.3 kB" in said
    assert "would be copied to cluster" in said
    assert (project.gateway.objects("mlflow"), project.gateway.objects("dvc")) == before
    address = project.there.target.address("mlflow").url_with_login
    client = mlflow.MlflowClient(address, address)
    assert client.get_experiment_by_name(project.here.name) is None
    assert not client.search_registered_models(f"name = '{project.model}'")
    assert not (project.there.state / "shipped.json").exists()


def test_several_models_with_any_names(project: Any) -> None:
    data = project.add_data("flights", b"x")
    names = [project.model, f"日本 {project.model}", f"it's {project.model}"]
    for value, name in enumerate(names):
        for _ in range(2):
            version = project.train(float(value), model=name, use=[data])
        project.here.promote(version, to="production", reason=name)
    project.here.ship("cluster", models=[names[1]])
    assert [project.there.registry.alias(name, "production") for name in names] == [None, "2", None]
    project.here.ship("cluster")
    for name in names:
        assert [v.version for v in project.there.models.versions(name)] == ["2", "1"]
        assert [p.reason for p in project.there.history(name)] == [name]
    assert faults(project) == []


def test_a_changed_model_is_refused_by_name_and_the_others_go(project: Any) -> None:
    changed, good = project.train(1.0), project.train(2.0, model=f"gut {project.model}")
    folder = project.here.models.path(changed)
    (folder / "requirements.txt").write_text("malware\n")
    status, said, errors = project.run("ship", "--to", "cluster")
    assert status == 9
    assert f"the files of {changed.ref} are not those that were registered" in errors
    assert str(folder) in errors
    assert "Traceback" not in errors
    assert "refused" in said
    assert project.there.models.names().count(good.name) == 1
    assert changed.name not in project.there.models.names()


@pytest.mark.parametrize("service", ["mlflow", "s3"])
def test_a_wrong_password_is_one_sentence(project: Any, service: str) -> None:
    project.add_data("flights", b"x")
    project.train(1.0)
    project.say_where(**{service: {"password": "wrong-password"}})
    before = project.gateway.objects("mlflow")
    status, said, errors = project.run("ship", "--to", "cluster")
    assert (status, said) == (8, "")
    assert "refuses the login" in errors
    assert "wrong-password" not in errors
    assert len(errors.splitlines()) == 2, "a sentence, and what to do next"
    assert project.gateway.objects("mlflow") == before


def test_an_error_does_not_wait_for_the_data(project: Any) -> None:
    """Data goes while the rest is compared: it is stopped in the middle."""
    for number in range(4):
        project.add_data(f"part-{number}", os.urandom(30_000_000))
    project.train(1.0)
    project.say_where(mlflow={"password": "wrong"})
    sent = []

    class Slow(Progress):
        def advance(self, size: int) -> None:
            sent.append(size)
            time.sleep(0.5)  # a slow line

    with pytest.raises(EnvironmentFault, match="refuses the login"):
        project.here.ship("cluster", progress=Slow())
    assert sum(sent) < 60_000_000


def test_a_service_that_is_down_is_said_at_once(project: Any) -> None:
    project.add_data("flights", b"x")
    project.train(1.0)
    with socket.socket() as taken:  # bound, but nothing listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for service, code in (("mlflow", "mlflow-store"), ("s3", "remote-unreachable")):
            project.say_where(**{service: {"url": url}})
            with pytest.raises(EnvironmentFault) as down:
                project.here.ship("cluster")
            assert down.value.code == code
            assert url.removeprefix("http://") in down.value.message


def test_s3_that_goes_down_in_the_middle_is_said_and_the_next_ship_goes_on(
    new_project: Callable[..., Any], own_gateway: Any
) -> None:
    project = new_project(own_gateway)
    count = 16  # some travel at once: all of few might have left before the first is seen over there
    for number in range(count):
        project.add_data(f"part-{number}", bytes([number]) * 300_000)
    project.train(1.0)
    project.say_where(mlflow={"storage": ""})  # files of models go through MLflow, whose S3 is another one

    class Stops(Progress):
        def advance(self, size: int) -> None:
            if len(own_gateway.objects("dvc")) >= 2:
                own_gateway.stop()

    with pytest.raises(EnvironmentFault) as down:
        project.here.ship("cluster", progress=Stops())
    assert down.value.code == "remote-unreachable"
    arrived = own_gateway.objects("dvc")
    assert 0 < len(arrived) < count
    own_gateway.start()
    shipped = project.here.ship("cluster")
    assert sum(item.state == "new" for item in shipped.data) == count - len(arrived)
    assert len(own_gateway.objects("dvc")) == count
    assert len(project.there.runs.list()) == 1
    assert len(project.there.models.versions(project.model)) == 1


def test_without_a_way_to_its_s3_files_go_through_mlflow(project: Any) -> None:
    """And are read back, because nobody else says what arrived."""
    project.say_where(mlflow={"storage": ""})
    version = project.train(1.0)
    project.here.ship("cluster")
    copy = project.there.models.get(version.ref)
    assert model_digest(project.there.models.path(copy)) == version.digest
    assert manifest(project.there.tracker.files(copy.run_id)) == manifest(
        project.here.tracker.files(version.run_id)
    )


def test_plain_mlflow_loads_what_was_shipped(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    import pandas as pd

    from modelyard.testing.models import ROWS

    version = project.train(0.25)
    project.here.promote(version, to="production", reason="first")
    project.here.ship("cluster")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.there.target.address("mlflow").url_with_login)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(project.there.target.address("mlflow").url_with_login)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{project.model}@production")
    finally:
        mlflow.set_tracking_uri(before)
    assert list(model.predict(pd.DataFrame(list(ROWS)))) == [0.25] * 3


def test_two_at_once_are_one_after_the_other(project: Any) -> None:
    for number in range(3):
        project.add_data(f"part-{number}", bytes([number]) * 100_000)
    project.train(1.0)
    both = [project.command("ship", "--to", "cluster", "--json") for _ in range(2)]
    ended = [(*process.communicate(timeout=180), process.returncode) for process in both]
    for said, errors, status in ended:
        assert status in (0, 5), errors
        if status == 5:
            assert json.loads(said)["error"]["code"] == "locked"
    assert 0 in {status for *_, status in ended}
    assert len(project.there.runs.list()) == 1
    assert len(project.there.models.versions(project.model)) == 1


def test_no_password_is_left_in_the_project(project: Any) -> None:
    data = project.add_data("flights", b"x" * 1000)
    version = project.train(1.0, use=[data])
    status, said, errors = project.run("ship", "--to", "cluster", "--json", MODELYARD_DEBUG="1")
    assert status == 0, errors
    assert project.run("--target", "cluster", "data", "pull")[0] == 0
    project.there.models.path(version)
    assert secrets_in(project.root) == []
    assert not any(secret in said + errors for secret in ("hush", "s3cret"))
