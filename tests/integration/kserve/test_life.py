"""The life of endpoints: revisions that come, fail, share traffic and go, whoever commands at once."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest

from modelyard.errors import EnvironmentFault, NotFoundError, UsageError
from modelyard.records import Endpoint

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"


@pytest.fixture(scope="module")
def live(project: Any) -> Endpoint:
    """An endpoint with version 1 alone, which no test changes for good."""
    made: Endpoint = project.apply("live", V1)
    return made


@pytest.fixture(scope="module")
def moved(project: Any) -> Endpoint:
    """An endpoint whose alias was version 1 and is version 2 since the last look."""
    project.shelf.point("late-flights", "production", "1")
    project.apply("split", "models:/late-flights@production")
    project.shelf.point("late-flights", "production", "2")
    made: Endpoint = project.server.reconcile("split")
    return made


def shares(endpoint: Endpoint) -> dict[str, int]:
    return {revision.version: revision.traffic for revision in endpoint.revisions if revision.traffic}


def answering(endpoint: Endpoint, rows: Any, times: int = 20) -> set[str]:
    return {endpoint.predict(rows[:1]).version for _ in range(times)}


# -- promotion and traffic ------------------------------------------------------------------


def test_no_request_fails_while_versions_are_switched_there_and_back(
    project: Any, callers: Any, within: Any
) -> None:
    made = project.apply("switched", V1)
    with callers(made.url, "switched") as under_way:
        for uri, canary in ((V2, 10), (V2, None), (V1, 30), (V1, 100)):
            moved = project.apply("switched", uri, canary=canary)
            assert moved.url == made.url
            if canary in (None, 100):
                switched = time.monotonic()
                time.sleep(0.3)
                assert within(60, lambda since=switched: under_way.versions(since=since) != set())
                assert under_way.versions(since=switched) == {uri[-1]}, "the old one must not answer now"
        time.sleep(2.5)  # the controller ends processes that nobody needs some seconds later
        assert within(60, lambda: len(under_way.answers) > 200), "too few requests to prove anything"
    assert under_way.failed() == []
    assert under_way.versions() == {"1", "2"}
    project.server.delete("switched")


def test_an_alias_that_moved_is_a_new_revision_when_reconciled(project: Any, moved: Endpoint) -> None:
    assert [revision.version for revision in moved.revisions] == ["2", "1"]
    assert shares(moved) == {"2": 100}
    names = [revision.name for revision in project.server.reconcile("split").revisions]
    assert names == [revision.name for revision in moved.revisions], "it moved once"


def test_traffic_moves_by_percent_and_back_to_a_process_that_was_kept(
    project: Any, moved: Endpoint, rows: Any
) -> None:
    kept = project.model_servers("split")
    assert kept.keys() == {1, 2}
    for canary, expected in ((20, {"1": 80, "2": 20}), (100, {"2": 100}), (0, {"1": 100})):
        changed = project.server.traffic("split", canary)
        assert shares(changed) == expected
        assert shares(project.server.get("split")) == expected
        if len(expected) == 1:
            assert answering(changed, rows) == set(expected)
    assert {n: p.pid for n, p in project.model_servers("split").items()} == {
        n: p.pid for n, p in kept.items()
    }
    assert shares(project.server.reconcile("split")) == {"1": 100}, "nothing moved since traffic() said so"
    # The file says more than what was said before it.
    assert shares(project.apply("split", V2, canary=35)) == {"1": 65, "2": 35}


def test_a_single_revision_has_nothing_to_share_with(project: Any, live: Endpoint) -> None:
    with pytest.raises(UsageError, match="one revision") as refused:
        project.server.traffic("live", 20)
    assert refused.value.code == "no-canary"
    assert shares(project.server.get("live")) == {"1": 100}


def test_a_percentage_on_the_first_revision_means_nothing_yet(project: Any, rows: Any) -> None:
    first = project.apply("first", V1, canary=20)
    assert shares(first) == {"1": 100}
    second = project.apply("first", V2, canary=20)
    assert shares(second) == {"1": 80, "2": 20}
    # A third shares with what was rolled out last, not with the canary that it replaces.
    third = project.apply("first", V1, canary=0)
    assert {r.number: r.traffic for r in third.revisions if r.traffic} == {1: 100}
    assert third.predict(rows).revision == "first-00001"
    project.server.delete("first")


# -- revisions that fail --------------------------------------------------------------------


def torn(folder: Path) -> None:
    file = folder / "model.skops"
    file.write_bytes(file.read_bytes()[:500])


def lost(folder: Path) -> None:
    (folder / "model.skops").unlink()


def of_a_package_that_is_not_here(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl}}")
    (folder / "model.pkl").write_bytes(b"cnot_a_package_of_ours\nModel\n.")


def a_pickle_that_nobody_registered(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps({}))


BROKEN = {
    torn: "not a zip file",
    lost: "No such file",
    of_a_package_that_is_not_here: "No module named 'not_a_package_of_ours'",
    a_pickle_that_nobody_registered: "does not come from the registry",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda f: f.__name__)
def test_a_model_that_can_not_be_loaded_is_named_and_the_old_one_answers_on(
    project: Any, live: Endpoint, callers: Any, samples: Any, tmp_path: Path, within: Any, broken: Any
) -> None:
    folder = shutil.copytree(samples["2"].folder, tmp_path / "model")
    broken(folder)
    uri = str(folder)
    if broken is not a_pickle_that_nobody_registered:
        uri = f"models:/broken/{project.shelf.put('broken', folder).version.version}"
    before = project.model_servers("live")[project.server.get("live").revisions[-1].number]
    with callers(live.url, "live") as under_way:
        with pytest.raises(EnvironmentFault, match=BROKEN[broken]) as failed:
            project.apply("live", uri)
        assert within(60, lambda: under_way.versions() != set())
    assert failed.value.code == "revision-failed"
    assert "\n" not in failed.value.message
    assert "Traceback" not in failed.value.message
    assert under_way.failed() == []
    assert under_way.versions() == {"1"}
    seen = project.server.get("live")
    assert seen.ready
    assert {r.version: r.ready for r in seen.revisions if r.traffic} == {"1": True}
    assert BROKEN[broken] in seen.revisions[0].message
    good = project.apply("live", V1)
    assert shares(good) == {"1": 100}
    assert project.model_servers("live")[good.revisions[0].number].pid == before.pid


def test_a_first_revision_that_fails_is_followed_by_a_good_one(
    project: Any, rows: Any, post: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(EnvironmentFault, match="does not come from the registry"):
        project.apply("late", str(tmp_path))
    failed = project.server.get("late")
    assert not failed.ready
    status, headers, said = post(failed.url, "/v1/models/late:predict", b"{}", seconds=20)
    assert status == 503
    assert json.loads(said)["error"].startswith("late-00001 can't be started: ")
    assert headers["Retry-After"]
    good = project.apply("late", V1)
    assert good.ready
    assert shares(good) == {"1": 100}
    assert answering(good, rows) == {"1"}
    project.server.delete("late")


def test_what_a_model_lacked_can_be_given_and_the_same_file_applied_again(
    new_project: Any, tmp_path: Path, within: Any
) -> None:
    package = tmp_path / "packages"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"clate_package\nModel\n)R.")
    distrusting = new_project()
    env = [{"name": "PYTHONPATH", "value": str(package)}]
    with pytest.raises(EnvironmentFault, match="a pickle, which runs code"):
        distrusting.apply("given", str(folder), env=env)
    # As the error's hint says: the settings are changed, the file is not.
    trusting = new_project(distrusting.context.root, trust_pickle=True)
    with pytest.raises(EnvironmentFault, match="No module named 'late_package'"):
        trusting.apply("given", str(folder), env=env)
    package.mkdir()
    (package / "late_package.py").write_text("class Model:\n    predict = staticmethod(lambda rows: rows)\n")
    began = time.monotonic()
    assert trusting.apply("given", str(folder), env=env).predict([[7.0]]).predictions == ([7.0],)
    assert time.monotonic() - began < 50, "it waited for a try that comes by itself"
    trusting.server.delete("given")


def test_files_that_changed_since_they_were_registered_are_refused(
    project: Any, rows: Any, samples: Any, tmp_path: Path, within: Any
) -> None:
    folder = shutil.copytree(samples["1"].folder, tmp_path / "model")
    uri = f"models:/edited/{project.shelf.put('edited', folder).version.version}"
    made = project.apply("edited", uri)
    shutil.copy(samples["2"].folder / "model.skops", folder / "model.skops")
    with pytest.raises(EnvironmentFault, match="not those that were registered") as refused:
        project.server.reconcile("edited")
    assert refused.value.code == "model-changed"
    assert list(made.predict(rows).predictions) == samples["1"].model.predict(pd.DataFrame(rows)).tolist()
    # Nor does a server that is started again answer with other files under the old version.
    project.model_servers("edited")[1].kill()
    said = "not those that the revision was made of"
    assert within(60, lambda: said in project.server.get("edited").revisions[0].message)
    assert not project.server.get("edited").ready
    project.server.delete("edited")


# -- commands that are killed, and commands at once -------------------------------------------


def test_an_apply_that_is_killed_anywhere_can_be_run_again(project: Any, rows: Any) -> None:
    chance = random.Random(7)
    for attempt in range(10):
        uri = V1 if attempt % 2 else V2
        child = project.child(("apply", project.file("killed", uri)))
        assert child.stdout is not None
        assert child.stdout.readline() == "begin\n"
        time.sleep(chance.uniform(0, 0.25 if attempt < 6 else 2.0))
        child.kill()
        child.communicate()
        file = project.folder("killed") / "desired.json"
        if file.exists():
            json.loads(file.read_text())
            project.server.get("killed")
    made = project.apply("killed", V1)
    assert shares(made) == {"1": 100}
    assert answering(made, rows) == {"1"}
    for part in ("controller", "activator", "envoy"):
        assert project.part(part), "there is exactly one"
    assert len(project.family("killed")) <= 2, "a model, and at most one that is kept"
    project.server.delete("killed")


def said_by(children: list[Any]) -> list[str]:
    return [child.communicate(timeout=120)[0].removeprefix("begin\n").strip() for child in children]


def test_two_applies_of_the_same_file_make_one_revision_and_one_family(project: Any, rows: Any) -> None:
    file = project.file("twice", V1)
    assert said_by([project.child(("apply", file)) for _ in range(2)]) == ["done", "done"]
    made = project.server.get("twice")
    assert [r.name for r in made.revisions] == ["twice-00001"]
    assert answering(made, rows) == {"1"}
    assert len(project.family("twice")) == 1
    assert project.part("controller")
    project.server.delete("twice")


def test_of_two_applies_of_different_files_the_last_one_wins(project: Any, rows: Any) -> None:
    for _ in range(2):
        said = said_by([project.child(("apply", project.file("rivals", uri))) for uri in (V1, V2)])
        assert "done" in said
        assert all(line == "done" or line.startswith("endpoint-changed ") for line in said), said
        made = project.server.get("rivals")
        newest = made.revisions[0].version
        assert shares(made) == {newest: 100}
        assert answering(made, rows) == {newest}
        assert len(project.family("rivals")) <= 2
    project.server.delete("rivals")


def test_two_ups_at_once_start_one_family(project: Any, rows: Any) -> None:
    made = project.server.apply(project.file("upped", V1), wait=False)
    project.context.services.stop("serving")
    assert project.everything() == []
    assert project.server.get("upped").message.startswith("not running: modelyard up")
    assert said_by([project.child(("up",)) for _ in range(2)]) == ["done", "done"]
    assert made.url
    assert project.server.get("upped").url == made.url
    assert made.predict(rows).version == "1"
    assert len(project.family("upped")) == 1
    assert project.part("controller")
    project.server.delete("upped")


# -- ports, names, the end --------------------------------------------------------------------


def test_a_port_that_was_taken_meanwhile_is_replaced_and_that_is_said(project: Any, rows: Any) -> None:
    made = project.server.apply(project.file("moved", V1), wait=False)
    port = project.context.services.get("serving").port
    project.context.services.stop("serving")
    with socket.create_server(("127.0.0.1", port)):
        moved = project.server.reconcile("moved")
    assert moved.url != made.url
    assert f"port {port} was taken" in moved.message
    assert str(urlsplit(moved.url).port) in moved.message
    assert answering(moved, rows) == {"1"}
    assert "taken" not in project.server.reconcile("moved").message
    project.server.delete("moved")


def test_delete_ends_every_process_and_removes_state_and_sockets(
    new_project: Any, within: Any, rows: Any
) -> None:
    project = new_project()
    project.apply("gone", V1)
    kept = project.apply("kept", V1)
    project.server.apply(project.file("gone", V2, canary=20), wait=False)
    assert within(60, lambda: 2 in project.model_servers("gone")), "it is loading"
    assert len(project.family("gone")) == 2
    project.server.delete("gone")
    assert project.family("gone") == []
    assert not project.folder("gone").exists()
    assert kept.predict(rows).version == "1"
    with pytest.raises(NotFoundError, match="there is no endpoint 'gone'"):
        project.server.delete("gone")
    project.server.delete("kept")
    assert project.everything() == []
    assert not project.sockets.exists()


def test_an_endpoint_can_be_deleted_while_another_command_starts_it(project: Any, within: Any) -> None:
    child = project.child(("apply", project.file("early", V1)))
    assert within(60, lambda: (project.folder("early") / "desired.json").exists())
    project.server.delete("early")
    began = time.monotonic()
    assert said_by([child])[0].startswith("endpoint-changed 'early' was deleted by another command")
    assert time.monotonic() - began < 60
    assert within(60, lambda: project.family("early") == []), "a model without an endpoint stays"
    assert not project.folder("early").exists()
    assert project.apply("early", V1).ready
    project.server.delete("early")


def test_the_longest_name_in_a_deep_folder_with_strange_letters_is_served(
    new_project: Any, tmp_path: Path, rows: Any
) -> None:
    root = tmp_path / ("ein sehr tiefer Ordner mit Umläuten äöü " * 3) / ("漢字 und Leerzeichen " * 6)
    root.mkdir(parents=True)
    assert len(str(root)) > 200
    deep = new_project(root)
    name = "a" + "b-" * 30 + "yz"
    assert len(name) == 63
    made = deep.apply(name, V1)
    assert made.predict(rows, protocol="v2").version == "1"
    with pytest.raises(Exception, match="has 64 characters") as refused:
        deep.apply(f"{name}c", V1)
    assert getattr(refused.value, "code", "") == "manifest-invalid"
    deep.server.delete(name)
    assert deep.everything() == []
