"""What our own image is built from: the versions that are installed here, and this very code."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from packaging.requirements import Requirement

from modelyard.errors import EnvironmentFault, MissingRequirementError
from modelyard_sandbox import stack_image
from modelyard_sandbox.errors import ImageFault

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Distributions as pip leaves them, found before what is really installed."""
    folder = tmp_path / "site"

    def do(name: str, version: str, url: str | None = None, **more: Any) -> None:
        about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        if url is not None:
            (about / "direct_url.json").write_text(json.dumps({"url": url, **more}))

    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return do


def test_everything_installed_is_pinned_but_what_no_index_has(install: Any, tmp_path: Path) -> None:
    install("Grey_Owl", "1.2")
    install("pydantic", "0.0.1")  # found first, so this is what runs
    install("local-build", "1.0+cu12")
    install("from-a-folder", "3.0", tmp_path.as_uri(), dir_info={})
    install("from-an-index", "4.0", "https://index.example/a.whl", archive_info={})
    found = stack_image.constraints()
    assert {"Grey_Owl==1.2", "pydantic==0.0.1", "from-an-index==4.0"} <= set(found)
    names = [line.partition("==")[0].lower() for line in found]
    assert len(names) == len(set(names))
    assert not {"modelyard", "local-build", "from-a-folder"} & set(names)
    assert f"click=={importlib.metadata.version('click')}" in found


def test_pip_understands_the_constraints() -> None:
    for line in stack_image.constraints():
        assert len(Requirement(line).specifier) == 1, line


def test_the_image_is_linux_whatever_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "xgboost-cpu>=3" in stack_image.requirements()  # xgboost brings NVIDIA's libraries along


def test_from_a_checkout_the_context_holds_a_wheel_of_it(tmp_path: Path, install: Any) -> None:
    install("modelyard", "0.1.0", CHECKOUT.as_uri(), dir_info={"editable": True})
    authority = tmp_path / "company.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    stack_image.context(tmp_path / "context", ca=authority)
    ours, needed = tmp_path / "context" / "in" / "ours", tmp_path / "context" / "in" / "needed"
    wheel = next(ours.glob("*.whl"))
    assert (ours / "requirements.txt").read_text() == f"./{wheel.name}\n"
    assert (needed / "modelyard-extra.crt").read_text() == authority.read_text()
    assert "click==" in (needed / "constraints.txt").read_text()
    assert (tmp_path / "context" / "Dockerfile").read_text().startswith("# The one image of ours")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {
        "modelyard/__init__.py",
        "modelyard_sandbox/images.lock.json",
        "modelyard_sandbox/image/Dockerfile",
    } <= names
    assert not any(name.startswith("tests/") for name in names)


def test_what_the_image_needs_is_what_the_extra_names() -> None:
    asked = {Requirement(line).name.lower(): Requirement(line) for line in stack_image.requirements()}
    assert {"click", "mlflow", "evidently", "kserve-storage", "psycopg2-binary"} <= asked.keys()
    assert "auth" in asked["mlflow"].extras
    assert not {"dvc", "docker", "kubernetes"} & asked.keys(), "the image would be larger for nothing"


def test_from_an_index_it_is_taken_from_there_again(tmp_path: Path, install: Any) -> None:
    install("modelyard", "7.8.9")
    stack_image.context(tmp_path / "context")
    inside = tmp_path / "context" / "in"
    assert (inside / "ours" / "requirements.txt").read_text() == "modelyard==7.8.9\n"
    assert not list((inside / "needed").glob("*.crt"))


def test_from_a_wheel_the_wheel_itself_is_taken(tmp_path: Path, install: Any) -> None:
    wheel = tmp_path / "modelyard-7.8.9-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    install("modelyard", "7.8.9", wheel.as_uri(), archive_info={})
    stack_image.context(tmp_path / "context")
    inside = tmp_path / "context" / "in" / "ours"
    assert (inside / "requirements.txt").read_text() == f"./{wheel.name}\n"
    assert (inside / wheel.name).read_bytes() == b"a wheel"


def test_a_wheel_that_is_gone_is_said(tmp_path: Path, install: Any) -> None:
    install("modelyard", "7.8.9", (tmp_path / "gone" / "modelyard.whl").as_uri(), archive_info={})
    with pytest.raises(MissingRequirementError, match="which is gone") as fault:
        stack_image.context(tmp_path / "context")
    assert fault.value.code == "source-missing"


def test_a_checkout_that_can_not_be_packed_is_said(tmp_path: Path, install: Any) -> None:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "pyproject.toml").write_text("[project]\nname = 1\n")
    install("modelyard", "7.8.9", (tmp_path / "checkout").as_uri(), dir_info={})
    with pytest.raises(ImageFault) as fault:
        stack_image.context(tmp_path / "context")
    assert fault.value.code == "wheel-failed"
    assert "\n" not in fault.value.message


def test_a_file_of_authorities_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"none\.pem"):
        stack_image.context(tmp_path / "context", ca=tmp_path / "none.pem")


def test_the_base_has_the_python_of_this_machine() -> None:
    major, minor = sys.version_info[:2]
    assert stack_image.base_image() == f"docker.io/library/python:{major}.{minor}-slim"


# -- what Docker says: an engine that fails is a stand-in, the real one is used in the cluster tier --


class Failing:
    """A Docker engine that gives these answers to a build."""

    def __init__(self, *answers: dict[str, str] | Exception) -> None:
        self.client = self.api = self
        self._answers = answers
        self.arguments: dict[str, Any] = {}

    def build(self, **arguments: Any) -> Iterator[dict[str, str]]:
        self.arguments = arguments
        for answer in self._answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer


@pytest.fixture
def from_an_index(install: Any) -> None:
    install("modelyard", "7.8.9")


@pytest.mark.usefixtures("from_an_index")
@pytest.mark.parametrize(
    ("answers", "code", "message", "hint"),
    [
        (
            [
                {"stream": "ERROR: No matching distribution found for owl\n"},
                {"error": "returned a non-zero code: 1"},
            ],
            "image-build",
            "No matching distribution found for owl",
            "--bundle",
        ),
        (
            [{"error": "Get https://a: x509: certificate signed by unknown authority"}],
            "image-build",
            "x509",
            "--ca-cert",
        ),
        (
            [{"stream": "ERROR: [Errno 28] No space left on device"}, {"error": "code 1"}],
            "engine-disk-full",
            "28",
            "prune",
        ),
        (
            [docker.errors.APIError("boom", explanation="no such base")],
            "image-build",
            "no such base",
            "--bundle",
        ),
        ([ConnectionError("engine went away")], "image-build", "engine went away", "--bundle"),
    ],
)
def test_a_build_that_fails_is_one_sentence_and_its_last_lines(
    answers: list[Any], code: str, message: str, hint: str
) -> None:
    with pytest.raises(ImageFault) as fault:
        stack_image.build(Failing(*answers), "x.io/stack:1")
    assert fault.value.code == code
    assert message in fault.value.message
    assert "\n" not in fault.value.message
    assert hint in fault.value.hint


@pytest.mark.usefixtures("from_an_index")
def test_proxies_and_the_index_are_handed_to_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    engine = Failing({"error": "enough"})
    with pytest.raises(ImageFault):
        stack_image.build(engine, "x.io/stack:1", base="x.io/python:3")
    assert engine.arguments["buildargs"] == {
        "BASE": "x.io/python:3",
        "PIP_INDEX_URL": "https://index.example/simple",
        "https_proxy": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }
    assert not Path(engine.arguments["path"]).exists()  # the context is temporary
