"""Models that lie on this machine: folders, archives, claims, what a run logged, DVC's data."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import modelyard
from modelyard.digests import model_digest
from modelyard.errors import ConfigError, CorruptStateError, ModelyardError, NotFoundError
from modelyard.stages import StageContext
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve


@pytest.fixture
def model(context: StageContext) -> Path:
    folder = context.root / "modelle" / "späte flüge"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "leer.py").touch()
    return folder


@pytest.mark.parametrize(
    "uri", ["modelle/späte flüge", "ROOT/modelle/späte flüge", "file://ROOT/modelle/sp%C3%A4te%20fl%C3%BCge"]
)
def test_a_folder_is_taken_where_it_lies(uri: str, model: Path, context: StageContext) -> None:
    found = resolve(uri.replace("ROOT", str(context.root)), context)
    assert (found.path, found.digest) == (model, model_digest(model))


def test_an_archive_is_unpacked_again_when_it_changes(model: Path, context: StageContext) -> None:
    shutil.make_archive(str(context.root / "late"), "zip", model)
    first = resolve("late.zip", context)
    assert first.digest == model_digest(model)
    assert (
        resolve(f"file://{context.root.as_posix()}/late.zip".replace(" ", "%20"), context).path == first.path
    )
    (model / "MLmodel").write_text("flavors: {x: {}}\n")
    shutil.make_archive(str(context.root / "late"), "zip", model)
    assert resolve("late.zip", context).digest == model_digest(model) != first.digest
    assert first.path.is_dir()


def test_a_claim_is_the_folder_that_stands_for_it(model: Path, context: StageContext) -> None:
    mapped = replace(context, settings=KserveSettings(pvc={"shelf": "modelle"}))
    assert resolve("pvc://shelf/sp%C3%A4te%20fl%C3%BCge", mapped).path == model
    for path in ("..", "../..", "späte flüge/../../.."):
        with pytest.raises(ConfigError, match="leads out of"):
            resolve(f"pvc://shelf/{path}", mapped)
    (model.parent / "out").symlink_to("/etc")
    with pytest.raises(ConfigError, match="leads out of"):
        resolve("pvc://shelf/out", mapped)
    with pytest.raises(NotFoundError, match="it stands for"):
        resolve("pvc://shelf/nothing", mapped)
    with pytest.raises(ConfigError) as caught:
        resolve("pvc://other/late", mapped)
    assert caught.value.code == "storage-unknown"
    assert '[providers.kserve.pvc] other = "/FOLDER"' in caught.value.hint


@pytest.mark.parametrize("uri", ["nichts", "file:///nichts", "/nichts/hier", "../nichts"])
def test_a_folder_that_is_not_there(uri: str, context: StageContext) -> None:
    with pytest.raises(NotFoundError, match="there is no model at") as caught:
        resolve(uri, context)
    assert caught.value.code == "model-files-missing"


# -- what a run logged -------------------------------------------------------------------------


def test_runs_hand_out_what_they_logged(tmp_path: Path) -> None:
    """By the real tracker: a model of ours, and what plain MLflow stores with a run."""
    from sklearn.linear_model import LogisticRegression

    yard = modelyard.init(tmp_path / "p", name="p")
    (tmp_path / "late.skops").write_bytes(b"skops")
    with yard.run("r") as run:
        logged = run.log_model(LogisticRegression().fit([[0], [1]], [0, 1]), example=[[0.0]])
        yard.tracker.log_file(run.id, tmp_path / "late.skops", folder="files/deep")
    context = yard._context("serving", "kserve")
    found = resolve(f"runs:/{run.id}/model", context)
    assert found.digest == logged.digest
    assert (found.model, found.version, found.trusted) == (None, "0", False), "nobody registered it"
    file = yard.tracker.artifact(run.id, "files/deep/late.skops")
    for path in ("files/deep", "files/deep/late.skops"):
        copied = resolve(f"runs:/{run.id}/{path}", context)
        assert [one.read_bytes() for one in copied.path.iterdir()] == [b"skops"]
    assert resolve(f"runs:/{run.id}/files/deep", context) == copied
    file.unlink()
    assert (copied.path / "late.skops").exists(), "a run may be deleted, and its endpoint answers on"
    for uri, code in (
        (f"runs:/{run.id}/nothing", "model-files-missing"),
        (f"runs:/{run.id}/../..", "model-files-missing"),
        (f"runs:/{'0' * 32}/model", "run-not-found"),
        (f"runs:/{run.id}", "storage-unknown"),
        ("runs:/", "storage-unknown"),
    ):
        with pytest.raises(ModelyardError) as caught:
            resolve(uri, context)
        assert caught.value.code == code, uri


# -- DVC ---------------------------------------------------------------------------------------


@pytest.fixture
def yard(tmp_path: Path) -> modelyard.Yard:
    """A project in git with DVC data: `models/late`, tagged v1 and v2, and a single file."""
    root = tmp_path / "ein Projekt"
    made = modelyard.init(root, name="p")
    git(root, "init", "-q")
    (root / "models" / "late" / "code").mkdir(parents=True)
    for number in (1, 2):
        (root / "models" / "late" / "MLmodel").write_text(f"version: {number}\n")
        (root / "models" / "late" / "code" / "leer.py").write_text("")
        (root / "models" / "one.skops").write_bytes(b"skops")
        made.data.add(root / "models" / "late")
        made.data.add(root / "models" / "one.skops")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"version {number}")
        git(root, "tag", f"v{number}")
    return made


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def dvc(yard: modelyard.Yard) -> Callable[[str], Path]:
    context = yard._context("serving", "kserve")
    return lambda uri: resolve(uri, context).path


def test_dvc_data_as_it_is_and_as_it_was(yard: modelyard.Yard, dvc: Callable[[str], Path]) -> None:
    assert (dvc("dvc://models/late") / "MLmodel").read_text() == "version: 2\n"
    assert (dvc("dvc://models/late?rev=v1") / "MLmodel").read_text() == "version: 1\n"
    assert dvc("dvc://models/late?rev=v2") == dvc("dvc://models/late")
    assert model_digest(dvc("dvc://models/late")) == model_digest(yard.root / "models" / "late")
    assert [file.name for file in dvc("dvc://models/one.skops").iterdir()] == ["one.skops"]
    assert [file.name for file in dvc("dvc://models/late/code").iterdir()] == ["leer.py"]
    (yard.root / "models" / "late" / "MLmodel").write_text("not added\n")
    assert (dvc("dvc://models/late") / "MLmodel").read_text() == "version: 2\n", "what was added counts"


def test_dvc_data_that_is_only_in_the_remote(
    yard: modelyard.Yard, dvc: Callable[[str], Path], tmp_path: Path
) -> None:
    yard.data.set_remote(tmp_path / "remote")
    yard.data.push()
    shutil.rmtree(yard.root / ".dvc" / "cache")
    shutil.rmtree(yard.root / "models" / "late")
    assert (dvc("dvc://models/late") / "MLmodel").read_text() == "version: 2\n"


@pytest.mark.parametrize("remote", ["none", "gone", "empty"])
def test_dvc_data_that_nobody_has(
    remote: str, yard: modelyard.Yard, dvc: Callable[[str], Path], tmp_path: Path
) -> None:
    if remote != "none":
        yard.data.set_remote(tmp_path / "remote")
    if remote == "gone":
        (tmp_path / "remote").rmdir()
    shutil.rmtree(yard.root / ".dvc" / "cache")
    shutil.rmtree(yard.root / "models" / "late")
    for path in ("late", "one.skops"):
        with pytest.raises(NotFoundError, match="neither DVC's cache nor the remote has"):
            dvc(f"dvc://models/{path}")


def test_other_bytes_than_the_hash_says_are_refused(yard: modelyard.Yard, dvc: Callable[[str], Path]) -> None:
    for file in (yard.root / ".dvc" / "cache" / "files" / "md5").rglob("*"):
        if file.is_file() and file.read_bytes().startswith(b"version: 2"):
            file.chmod(0o644)
            file.write_text("version: 3\n")
    shutil.rmtree(yard.root / "models" / "late")
    with pytest.raises(CorruptStateError) as caught:
        dvc("dvc://models/late")
    assert caught.value.code == "data-corrupt"


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("dvc://models/nothing", "model-files-missing"),
        ("dvc://models/late?rev=v9", "model-files-missing"),
        ("dvc://models/late?rev=", "storage-unknown"),
        ("dvc://models/late?ref=v1", "storage-unknown"),
        ("dvc://../late", "storage-unknown"),
        ("dvc://", "storage-unknown"),
    ],
)
def test_dvc_data_that_is_not_there(uri: str, code: str, dvc: Callable[[str], Path]) -> None:
    with pytest.raises(ModelyardError) as caught:
        dvc(uri)
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint


def test_a_project_without_dvc(context: StageContext) -> None:
    with pytest.raises(NotFoundError, match="the project has no DVC repository"):
        resolve("dvc://models/late", context)
