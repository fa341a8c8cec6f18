"""Endpoints whose models come from elsewhere, applied, changed, and served by real processes."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelyard.errors import EnvironmentFault, ModelyardError

if TYPE_CHECKING:
    from conftest import Web

FILE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: late}
spec:
  predictor:
    model:
      modelFormat: {name: mlflow}
      storageUri: "URI"
"""


def zipped(folder: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    return made.getvalue()


@pytest.fixture
def apply(project: Any, tmp_path: Path) -> Callable[[str], Any]:
    def do(uri: str, text: str = FILE) -> Any:
        (tmp_path / "late.yaml").write_text(text.replace("URI", uri))
        return project.server.apply(tmp_path / "late.yaml")

    return do


def test_the_life_of_a_model_from_the_web(
    apply: Callable[..., Any], project: Any, samples: Any, web: Web, rows: Any, post: Any
) -> None:
    web.files["/late.zip"] = zipped(samples["1"].folder)
    uri = f"{web.url.replace('//', '//ann:geheim@')}/late.zip?sig=verborgen"
    first = apply(uri)
    assert first.ready
    assert first.revisions[0].storage_uri == first.storage_uri == f"{web.url}/late.zip?..."
    assert (first.revisions[0].model, first.revisions[0].version) == ("late", "0")
    assert apply(uri).revisions == first.revisions, "nothing changed, so nothing is new"
    wanted = samples["1"].model.predict_proba  # the model that was zipped answers
    assert wanted is not None
    before = first.predict(rows).predictions
    web.files["/late.zip"] = zipped(samples["2"].folder)
    assert first.predict(rows).predictions == before, "a revision is one model for ever"
    second = apply(uri)
    assert [revision.number for revision in second.revisions] == [2, 1]
    assert second.predict(rows).predictions != before
    # Nobody who reads what lies about learns the login: the applied file alone has it, for its owner.
    for file in project.context.root.rglob("*"):
        if file.is_file() and file.name != "desired.json":
            content = file.read_bytes()
            assert b"geheim" not in content, file
            assert b"verborgen" not in content, file
        elif file.is_file():
            assert file.stat().st_mode & 0o077 == 0
    # The network is gone: what is here is served on, another split is no reason to fetch.
    web.instead["/late.zip"] = lambda handler: handler.send_error(503)
    canary = FILE.replace("  predictor:\n", "  predictor:\n    canaryTrafficPercent: 0\n")
    third = apply(uri, canary)
    assert [revision.number for revision in third.revisions] == [2, 1]
    assert "serving what was fetched at" in third.message
    assert "geheim" not in third.message
    # What revisions use stays, however old it is.
    entries = [path for path in (project.context.state / "models").iterdir() if path.is_dir()]
    for entry in entries:
        os.utime(entry, (0, 0))
    web.files["/other.zip"] = zipped(samples["1"].folder)
    apply(f"{web.url}/other.zip")
    assert all(entry.is_dir() for entry in entries)
    # A replica that is started anew looks whether the files are still those.
    project.server.delete("late")


def test_a_pickle_of_nobody_is_refused(
    apply: Callable[..., Any], project: Any, samples: Any, web: Web
) -> None:
    import joblib

    content = io.BytesIO()
    joblib.dump(samples["1"].model, content)
    web.files["/late.joblib"] = content.getvalue()
    with pytest.raises(EnvironmentFault) as caught:
        apply(f"{web.url}/late.joblib", FILE.replace("mlflow", "sklearn"))
    assert caught.value.code == "revision-failed"
    assert "it is a pickle" in caught.value.message
    project.server.delete("late")


def test_a_model_that_is_not_there_makes_no_endpoint(
    apply: Callable[..., Any], project: Any, web: Web
) -> None:
    with pytest.raises(ModelyardError) as caught:
        apply(f"{web.url}/nothing.zip")
    assert caught.value.code == "model-files-missing"
    assert project.server.endpoints() == []


def test_lint_says_what_an_address_means_here(project: Any) -> None:
    def said(uri: str, mode: str | None = None) -> list[str]:
        found = project.server.lint(FILE.replace("URI", uri), "late.yaml", mode=mode)
        return [f"{one.level} {one.line} {one.message}" for one in found]

    assert said("s3://models/late") == said("dvc://models/late?rev=v1") == said("runs:/abc/model") == []
    assert said("pvc://shelf/late") == ["error 8 no folder stands for the PersistentVolumeClaim 'shelf' here"]
    assert said("pvc://shelf/late", "knative") == []
    (unknown,) = said("ftp://host/late")
    assert unknown.startswith("error 8 'ftp' is no storage that KServe knows; known: s3://, gs://")
    assert said("https://ann:geheim@host/x.zip") == [
        "warning 8 holds a login, for everybody who reads the file"
    ]
    assert said("dvc://models/late", "standard") == [
        "error 8 dvc: is this project's own; no cluster fetches it"
    ]


def test_storage_names_a_bucket_and_a_secret_of_a_cluster(
    apply: Callable[..., Any], samples: Any, s3: Path, rows: Any
) -> None:
    shutil.copytree(samples["1"].folder, s3 / "sklearn")
    storage = "storage: {key: localS3, path: sklearn, parameters: {bucket: models}}"
    made = apply("", FILE.replace('storageUri: "URI"', storage))
    assert made.ready
    assert made.storage_uri == "s3://models/sklearn"
    assert any("storage.key names a secret of the cluster" in note for note in made.message.split("; "))
    assert len(made.predict(rows).predictions) == len(rows)
