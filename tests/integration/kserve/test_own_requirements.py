"""A model with packages of its own: another version than the project's, which serves as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import six

from modelyard.errors import ModelyardError

pytestmark = pytest.mark.network
OTHER = "1.16.0"


def model(folder: Path, *requirements: str) -> str:
    """Answers with the version of six that it finds."""

    class Says:
        def predict(self, rows: Any) -> Any:
            import six

            return [six.__version__] * len(rows)

    folder.mkdir()
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Says()))
    (folder / "requirements.txt").write_text("\n".join(requirements))
    return str(folder)


def apply(project: Any, name: str, uri: str, **annotations: str) -> Any:
    file = project.file(name, uri)
    content = json.loads(file.read_text())
    content["metadata"]["annotations"] = {f"modelyard.dev/{key}": value for key, value in annotations.items()}
    file.write_text(json.dumps(content))
    return project.server.apply(file)


def test_a_model_may_have_packages_of_its_own(
    new_project: Callable[..., Any], post: Callable[..., Any], tmp_path: Path
) -> None:
    assert six.__version__ != OTHER
    project = new_project(trust_pickle=True)

    def said(url: str, name: str) -> str:
        status, _, text = post(url, f"/v1/models/{name}:predict", b'{"instances": [[1]]}')
        assert status == 200, text
        return str(json.loads(text)["predictions"][0])

    uri = model(tmp_path / "model", f"six=={OTHER}")
    assert said(apply(project, "plain", uri).url, "plain") == six.__version__
    assert said(apply(project, "own", uri, requirements="own").url, "own") == OTHER
    assert said(apply(project, "again", uri, requirements="own").url, "again") == OTHER
    logs = {name: "\n".join(project.server.logs(name)) for name in ("own", "again")}
    assert f"making an environment with six=={OTHER}" in logs["own"]
    assert "making an environment" not in logs["again"]

    with pytest.raises(ModelyardError) as caught:
        apply(project, "none", model(tmp_path / "none", "six==0.0.99"), requirements="own")
    assert "uv can't make its own environment: " in caught.value.message
    with pytest.raises(ModelyardError) as caught:
        apply(project, "typo", uri, requirements="mine")
    assert "'mine' is not 'own'" in caught.value.message
