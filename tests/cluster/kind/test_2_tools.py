"""KServe's own client finds what it knows, and our providers keep their promises on a cluster, too."""

from __future__ import annotations

import dataclasses
import io
import json
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.kind.conftest import Box
from tests.conformance import test_mlflow

import modelyard
from modelyard.records import LoggedModel, ModelVersion
from modelyard.stages import StageContext
from modelyard.testing import make_context


@pytest.fixture(scope="module")
def iris(box: Box) -> str:
    """KServe's first example, a scikit-learn model of irises as joblib writes it; its address in S3."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.svm import SVC

    data = load_iris()
    written = io.BytesIO()
    joblib.dump(SVC(gamma="scale").fit(data.data, data.target), written)
    box.s3().put_object(Bucket="mlflow", Key="examples/iris/model.joblib", Body=written.getvalue())
    return "s3://mlflow/examples/iris"


SAMPLE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: sklearn-iris
spec:
  predictor:
    serviceAccountName: modelyard-models
    sklearn:
      storageUri: STORAGE
      env: [{name: MODELYARD_TRUST, value: "true"}]
"""


def test_a_file_as_kserves_samples_are_and_kserves_own_client(box: Box, iris: str, tmp_path: Path) -> None:
    """The old way of writing a predictor, as most samples have it; its pickle is loaded because it says so.

    The client's `create` hands its objects on as they are, and kubernetes 37 takes nothing but dictionaries.
    """
    from kserve import KServeClient

    (tmp_path / "sample.yaml").write_text(SAMPLE.replace("STORAGE", iris))
    box.kubectl("apply", "-f", str(tmp_path / "sample.yaml"))
    client = KServeClient(config_file=str(box.folder / "kubeconfig"))
    try:
        client.wait_isvc_ready("sklearn-iris", namespace="default", timeout_seconds=120)
        found = client.get("sklearn-iris", namespace="default")
        host = urllib.parse.urlsplit(found["status"]["url"]).hostname
        body = json.dumps({"instances": [[6.8, 2.8, 4.8, 1.4], [5.1, 3.5, 1.4, 0.2]]}).encode()
        request = urllib.request.Request(
            f"{box.url('gateway')}/v1/models/sklearn-iris:predict", body, {"Host": str(host)}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer) == {"predictions": [1, 0]}
    finally:
        client.delete("sklearn-iris", namespace="default")


def test_a_sample_that_names_a_public_bucket_is_taken(box: Box, tmp_path: Path) -> None:
    """As KServe's documentation has it; the files themselves lie where this machine can't reach."""
    bucket = "gs://kfserving-examples/models/sklearn/1.0/model"
    (tmp_path / "sample.yaml").write_text(SAMPLE.replace("STORAGE", bucket))
    said = box.kubectl("create", "--dry-run=server", "-o", "name", "-f", str(tmp_path / "sample.yaml"))
    assert said.strip() == "inferenceservice.serving.kserve.io/sklearn-iris"


class OnTheCluster:
    """Every context is a new project whose target is the sandbox: one MLflow, which they share."""

    @pytest.fixture(scope="class")
    @classmethod
    def new_context(
        cls, box: Box, offer: Any, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Callable[[], StageContext]]:
        def make() -> StageContext:
            root = tmp_path_factory.mktemp("ein Projekt äö")
            context = make_context(root, provider=offer.name)
            target = modelyard.open(root, target="sandbox-ci").target
            return dataclasses.replace(context, project=f"projekt {uuid.uuid4().hex[:8]}", target=target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", box.env["XDG_STATE_HOME"])
            yield make


class TestTracker(OnTheCluster, test_mlflow.TestTracker):
    """MLflow's server keeps what MLflow's files keep."""


class TestRegistry(OnTheCluster, test_mlflow.TestRegistry):
    """The same, for what goes through S3."""

    @pytest.fixture
    def delete_version(self, context: StageContext) -> Callable[[ModelVersion], None]:
        def delete(version: ModelVersion) -> None:
            from mlflow import MlflowClient

            assert context.target is not None
            server = context.target.address("mlflow").url_with_login
            MlflowClient(server, server).delete_model_version(version.name, version.version)

        return delete

    @pytest.fixture
    def lose_files(self, box: Box, provider: Any) -> Callable[[ModelVersion], None]:
        def lose(version: ModelVersion) -> None:
            parts = urllib.parse.urlsplit(provider.address(version))
            client, where = box.s3(), {"Bucket": parts.netloc, "Prefix": parts.path.strip("/") + "/"}
            for found in client.list_objects_v2(**where)["Contents"]:
                client.delete_object(Bucket=parts.netloc, Key=found["Key"])

        return lose

    test_a_new_project_has_no_models = None  # type: ignore[assignment]  # the server is shared

    def test_a_new_project_has_the_servers_models(
        self, fresh: Any, registry: Any, unique: str, logged: LoggedModel
    ) -> None:
        """It sees what the others registered, and may take it up."""
        assert unique not in fresh.models()
        version = registry.register(unique, logged)
        assert unique in fresh.models()
        assert fresh.get(unique, version.version).digest == version.digest
