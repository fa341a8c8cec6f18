"""Where the stages run: which target is taken, what the file may say, what is said when it is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelyard
from modelyard import targets
from modelyard.audit import audit
from modelyard.errors import ConfigError, ModelyardError, NotFoundError
from modelyard.kube.services import Place, parse
from modelyard.targets import Address, Target
from modelyard.testing import ConstantModel
from modelyard.yard import Yard

PLUGIN = """
import modelyard
from modelyard.targets import Address, Target, TargetOffer

def find(service):
    return Address(url=f"http://127.0.0.1:1/{service}")

@modelyard.hookimpl
def modelyard_targets():
    yield TargetOffer(name="shared", summary="our team's", connect=lambda: Target("shared", find=find))
    yield TargetOffer(name="wrong", summary="no target", connect=lambda: "nothing")
"""


@pytest.fixture
def root(modelyard_project: Yard) -> Path:
    return modelyard_project.root


def write(root: Path, text: str) -> None:
    file = root / "modelyard.toml"
    file.write_text(text + file.read_text())


def test_without_a_word_it_is_this_machine(root: Path) -> None:
    yard = modelyard.open(root)
    assert (yard.target_name, yard.target) == ("local", None)
    assert yard.state == root / ".modelyard"


def test_argument_environment_choice_and_file_win_in_this_order(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, 'target = "in-the-file"\n')
    assert targets.chosen(root) == "in-the-file"
    targets.use(root, "chosen")
    assert targets.chosen(root) == "chosen"
    monkeypatch.setenv("MODELYARD_TARGET", "in-the-environment")
    assert targets.chosen(root) == "in-the-environment"
    assert targets.chosen(root, "asked") == "asked"
    monkeypatch.delenv("MODELYARD_TARGET")
    targets.use(root, None)
    assert targets.chosen(root) == "in-the-file"


def test_finding_the_target_imports_nothing_heavy(root: Path) -> None:
    code = f"import sys, pathlib; from modelyard.targets import chosen; chosen(pathlib.Path({str(root)!r}))"
    code += "; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", "every `modelyard status` would pay for it"


def test_everything_of_a_target_has_a_folder_of_its_own(root: Path) -> None:
    (root / "modelyardfile.py").write_text(PLUGIN)
    yard = modelyard.open(root, target="shared")
    assert yard.state == root / ".modelyard" / "targets" / "shared"
    assert yard.target is not None
    assert yard.target.address("mlflow").url == "http://127.0.0.1:1/mlflow"
    assert yard.history() == []


def test_a_target_that_is_not_there_is_said_with_those_that_are(root: Path) -> None:
    (root / "modelyardfile.py").write_text(PLUGIN)
    yard = modelyard.open(root, target="prod")
    with pytest.raises(
        NotFoundError, match=r"there is no target 'prod'; there are: local, .*shared"
    ) as fault:
        _ = yard.target
    assert "modelyard target add" in fault.value.hint


def test_an_offer_of_something_else_is_said(root: Path) -> None:
    (root / "modelyardfile.py").write_text(PLUGIN)
    with pytest.raises(ConfigError, match=r"the target 'wrong' of .* is a str, not a Target"):
        _ = modelyard.open(root, target="wrong").target


def test_a_table_that_is_mistyped_names_the_key(root: Path) -> None:
    with (root / "modelyard.toml").open("a") as file:
        file.write('\n[targets.prod]\nnamespaces = "a"\n')
    with pytest.raises(
        ConfigError, match=r"unknown key 'targets\.prod\.namespaces'; did you mean 'namespace'"
    ):
        modelyard.open(root)


def test_a_table_of_the_same_name_wins_over_a_plugin(root: Path) -> None:
    (root / "modelyardfile.py").write_text(PLUGIN)
    with (root / "modelyard.toml").open("a") as file:
        file.write('\n[targets.shared]\nnamespace = "team-a"\n')
        file.write(
            '[targets.shared.services.s3]\nurl = "http://s3.example.com"\nuser = "me"\npassword_env = "KEY"\n'
        )
    yard = modelyard.open(root, target="shared")
    assert yard.target is not None
    assert yard.target.namespace == "team-a"
    with pytest.raises(ConfigError, match="the environment has no KEY"):
        yard.target.address("s3")


def test_a_password_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "a/b")
    with (root / "modelyard.toml").open("a") as file:
        file.write('\n[targets.prod.services.s3]\nurl = "http://s3.example.com"\n')
        file.write('user = "me"\npassword_env = "KEY"\nstorage = "s3://dvc"\n')
    target = modelyard.open(root, target="prod").target
    assert target is not None
    found = target.address("s3")
    assert found == Address(
        url="http://s3.example.com",
        inside="http://s3.example.com",
        user="me",
        password="a/b",
        storage="s3://dvc",
    )
    assert found.url_with_login == "http://me:a%2Fb@s3.example.com"


def test_no_kubeconfig_is_said_in_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with (root / "modelyard.toml").open("a") as file:
        file.write('\n[targets.prod]\nkubeconfig = "/nowhere/at/all"\n')
    target = modelyard.open(root, target="prod").target
    assert target is not None
    with pytest.raises(ModelyardError, match="/nowhere/at/all"):
        target.address("mlflow")


def test_other_projects_models_on_a_shared_registry_are_not_ours_to_judge(root: Path) -> None:
    (root / "modelyardfile.py").write_text((root / "modelyardfile.py").read_text() + PLUGIN)
    for target, findings in (("local", 1), ("shared", 0)):
        yard = modelyard.open(root, target=target)
        with yard.run("theirs") as run:
            version = run.log_model(ConstantModel(0.5), name="theirs", example=[{"temp": 1.0}])
        yard.registry.set_alias("theirs", "production", version.version)
        assert len(audit(yard)) == findings, target


def test_addresses_are_looked_up_once() -> None:
    asked: list[str] = []

    def find(service: str) -> Address:
        asked.append(service)
        return Address(url="http://x")

    target = Target("t", find=find)
    assert target.address("s3") is target.address("s3")
    assert asked == ["s3"]


@pytest.mark.parametrize("text", ["mlflow", "a/b", "a/b:x", "a b/c:1", "http://a/b:1"])
def test_what_names_no_service_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not NAMESPACE/NAME:PORT"):
        parse(text)
    assert parse("team-a/mlflow:5000") == Place("team-a", "mlflow", 5000)
