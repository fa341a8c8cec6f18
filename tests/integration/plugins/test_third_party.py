"""Plugins of third parties through the real command line: a good one, and nasty ones."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"

SCRIPT = """\
import modelyard

yard = modelyard.open()
with yard.run("späte flüge", params={"depth": 6}) as run:
    run.log({"auc": 0.71})
"""


def _install_module() -> Any:
    spec = importlib.util.spec_from_file_location("plugins_install", PLUGINS / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = _install_module()


@dataclass(frozen=True)
class Said:
    """What the command line answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])


@dataclass(frozen=True)
class Shell:
    """A project whose Python has the plugins of `site`."""

    project: Path
    site: Path

    def __call__(self, *arguments: str, **variables: str) -> Said:
        return self.python("-m", "modelyard", *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> Said:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD_", "PYTEST_"))}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env={**kept, "PYTHONPATH": str(self.site), "PYTHONUTF8": "1", **variables},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def track_with(self, provider: str) -> None:
        """Change the one line of `modelyard.toml`."""
        file = self.project / "modelyard.toml"
        lines = file.read_text(encoding="utf-8").splitlines()
        changed = [f'track = "{provider}"' if line.startswith("track = ") else line for line in lines]
        assert sum(a != b for a, b in zip(lines, changed)) <= 1
        file.write_text("\n".join(changed) + "\n", encoding="utf-8")

    def plugin(self, name: str) -> dict[str, Any]:
        """What `plugins list --json` says of one plugin."""
        listed = self("plugins", "list", "--json")
        assert listed.status == 0, listed.err
        return next(dict(info) for info in listed.json if info["name"] == name)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A new project that tracks with acme."""
    shell = Shell(tmp_path / "mein projekt", tmp_path / "site packages")
    shell.project.mkdir()
    install.install_project(shell.site, PLUGINS / "acme_yard")
    made = shell("init")
    assert made.status == 0, made.err
    shell.track_with("acme")
    (shell.project / "train.py").write_text(SCRIPT, encoding="utf-8")
    return shell


@pytest.fixture
def nasty(shell: Shell) -> Callable[[str], str]:
    """Installs a nasty plugin too, and returns its distribution."""
    return lambda name: str(install.install_module(shell.site, PLUGINS / "nasty_yard" / f"{name}.py"))


# -- a good one -----------------------------------------------------------------------------


def test_one_line_swaps_the_tracker(shell: Shell) -> None:
    ran = shell("run", "train.py")
    assert ran.status == 0, ran.err
    listed = shell("runs", "list", "--json")
    (run,) = listed.json
    assert (run["name"], run["status"]) == ("späte flüge", "finished")
    assert (run["params"], run["metrics"]) == ({"depth": "6"}, {"auc": 0.71})
    assert (shell.project / ".modelyard" / "acme" / "runs" / f"{run['id']}.json").is_file()
    assert not (shell.project / ".modelyard" / "mlflow").exists(), "MLflow must not even be opened"
    assert listed.err == "", "a plugin that works is not worth a word"


def test_a_good_plugin_is_listed_with_what_it_offers(shell: Shell) -> None:
    info = shell.plugin("acme")
    assert (info["distribution"], info["version"]) == ("acme-yard", "1.2.3")
    assert info["status"] == "ok"
    assert "acme" in str(info["offers"])
    assert "acme-yard" in shell("plugins", "list").out
    assert shell("plugins", "check", "acme").status == 0


def test_a_third_party_proves_its_plugin_with_the_kit(shell: Shell, tmp_path: Path) -> None:
    lines = (PLUGINS / "acme_yard" / "tests" / "test_conformance.py").read_text().splitlines()
    assert len(lines) <= 30, "a third party's file must stay short"
    tests = PLUGINS / "acme_yard" / "tests"
    done = shell.python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c/dev/null", f"--rootdir={tests}"),
        *("--import-mode=importlib", f"--basetemp={tmp_path / 'base'}", str(tests)),
    )
    assert done.status == 0, done.out[-3000:]
    assert "passed" in done.out


def test_a_disabled_plugin_is_not_used(shell: Shell) -> None:
    listed = shell("plugins", "list", "--json", "--no-plugins=acme")
    assert next(info["status"] for info in listed.json if info["name"] == "acme") == "disabled"
    refused = shell("runs", "list", "--json", MODELYARD_NO_PLUGINS="acme")
    assert (refused.status, refused.error["code"]) == (3, "provider-unknown")
    assert "acme (disabled)" in refused.error["message"], "the message must say why it is not there"


# -- nasty ones -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nasty_import", "the license server does not answer"),
        ("nasty_exit", "this plugin wants Windows"),
        ("nasty_hook", "modelyard_trackers"),
        ("nasty_yield", "dict"),
    ],
)
def test_a_broken_plugin_is_named_and_the_rest_works(
    shell: Shell, nasty: Callable[[str], str], name: str, reason: str
) -> None:
    distribution = nasty(name)
    listed = shell("runs", "list", "--json")
    assert (listed.status, listed.json) == (0, []), listed.err
    assert distribution in listed.err, "the warning must name the distribution"
    assert reason in listed.err, "the warning must say what is wrong"
    assert f"--no-plugins={name}" in listed.err, "the warning must say how to switch it off"
    assert f"MODELYARD_NO_PLUGINS={name}" in listed.err
    assert "Traceback" not in listed.err
    assert len(listed.err.splitlines()) == 1, f"one plugin is one line: {listed.err}"


@pytest.mark.parametrize("name", ["nasty_import", "nasty_exit", "nasty_hook", "nasty_yield"])
def test_a_broken_plugin_is_listed_as_broken(shell: Shell, nasty: Callable[[str], str], name: str) -> None:
    distribution = nasty(name)
    info = shell.plugin(name)
    assert (info["status"], info["distribution"], info["version"]) == ("broken", distribution, "6.6.6")
    assert info["message"], "the list must say what is wrong"
    assert shell.plugin("acme")["status"] == "ok", "another plugin must not suffer"
    assert shell("plugins", "check", name).status == 3


def test_a_misspelt_hook_is_told_what_was_meant(shell: Shell, nasty: Callable[[str], str]) -> None:
    nasty("nasty_hook")
    message = shell.plugin("nasty_hook")["message"]
    assert "modelyard_trackerz" in message
    assert "did you mean 'modelyard_trackers'" in message


@pytest.mark.parametrize("how", ["flag", "flag for all", "environment"])
def test_a_broken_plugin_can_be_switched_off(shell: Shell, nasty: Callable[[str], str], how: str) -> None:
    nasty("nasty_import")
    if how == "flag":
        listed = shell("runs", "list", "--json", "--no-plugins=nasty_import")
        assert (listed.status, listed.json, listed.err) == (0, [], "")
    elif how == "environment":
        listed = shell("--set", "stages.track=acme", "runs", "list", MODELYARD_NO_PLUGINS="nasty_import")
        assert (listed.status, listed.err) == (0, "")
    else:
        listed = shell("plugins", "list", "--json", "--no-plugins")
        stated = {info["name"]: info["status"] for info in listed.json}
        assert (stated["acme"], stated["nasty_import"], listed.err) == ("disabled", "disabled", "")
        assert stated["mlflow"] == "ok", "our own plugins stay"


def test_two_plugins_of_one_name_are_an_error_only_when_it_is_used(
    shell: Shell, nasty: Callable[[str], str]
) -> None:
    distribution = nasty("nasty_name")
    fine = shell("runs", "list", "--json")
    assert (fine.status, fine.json, fine.err) == (0, [], ""), "nobody asked for the name"
    shell.track_with("mlflow")
    refused = shell("runs", "list", "--json")
    assert (refused.status, refused.error["code"]) == (5, "provider-name-taken")
    assert distribution in refused.error["message"], "both distributions must be named"
    assert "(from modelyard)" in refused.error["message"], "both distributions must be named"
    assert "--no-plugins=" in refused.error["hint"]


def test_a_slow_plugin_is_named_with_its_seconds(shell: Shell, nasty: Callable[[str], str]) -> None:
    distribution = nasty("nasty_slow")
    listed = shell("runs", "list", "--json")
    assert (listed.status, listed.json) == (0, [])
    assert distribution in listed.err, "the warning must name the distribution"
    assert " 2." in listed.err, "the warning must say how long it took"
    assert "--no-plugins=nasty_slow" in listed.err
    info = shell.plugin("nasty_slow")
    assert info["status"] == "ok"
    assert info["import_seconds"] >= 2


def test_help_and_history_wait_for_no_plugin(shell: Shell, nasty: Callable[[str], str]) -> None:
    nasty("nasty_import")
    for command in (("--help",), ("history",), ("status",)):
        said = shell(*command)
        assert (said.status, said.err) == (0, ""), f"{command} must not load plugins: {said.err}"


def test_a_factory_that_returns_the_wrong_type_is_named(shell: Shell, nasty: Callable[[str], str]) -> None:
    distribution = nasty("nasty_type")
    shell.track_with("half")
    refused = shell("runs", "list", "--json")
    assert (refused.status, refused.error["code"]) == (3, "provider-wrong-type")
    for word in (distribution, "HalfATracker", "log", "log_model", "finish", "get"):
        assert word in refused.error["message"], f"the message must hold {word}: {refused.error}"
    assert "start," not in refused.error["message"], "only the missing methods are named"


def test_a_factory_that_raises_is_named(shell: Shell, nasty: Callable[[str], str]) -> None:
    distribution = nasty("nasty_factory")
    shell.track_with("raising")
    refused = shell("runs", "list", "--json")
    assert (refused.status, refused.error["code"]) == (3, "provider-failed")
    assert distribution in refused.error["message"]
    assert "Traceback" not in refused.err


def test_a_provider_that_fails_in_the_middle_is_named(shell: Shell, nasty: Callable[[str], str]) -> None:
    distribution = nasty("nasty_middle")
    shell.track_with("failing")
    refused = shell("runs", "list", "--json")
    assert (refused.status, refused.error["code"]) == (1, "plugin-failed")
    for word in (distribution, "'nasty_middle'", "nobody thought of this in runs"):
        assert word in refused.error["message"]
    assert "Traceback" not in refused.err
    assert "Traceback" in shell("--debug", "runs", "list").err


def test_a_listener_that_wants_to_end_the_command_is_reported(shell: Shell) -> None:
    (shell.project / "modelyardfile.py").write_text(
        "import modelyard\n@modelyard.hookimpl\ndef modelyard_checks():\n    raise SystemExit(4)\n"
    )
    said = shell("doctor", "--json")
    assert said.out.startswith("[")
    assert "modelyardfile.py" in said.out


def test_what_a_plugin_prints_does_not_spoil_the_json(shell: Shell, nasty: Callable[[str], str]) -> None:
    nasty("nasty_print")
    said = shell("runs", "list", "--json")
    assert said.json == []
    assert "welcome to a chatty plugin" in said.err
    assert shell("doctor", "--json").out.startswith("[")


def test_all_of_them_together_leave_the_tool_usable(shell: Shell, nasty: Callable[[str], str]) -> None:
    nasties = [file.stem for file in sorted((PLUGINS / "nasty_yard").glob("*.py"))]
    for name in nasties:
        nasty(name)
    assert shell("run", "train.py").status == 0
    assert [run["name"] for run in shell("runs", "list", "--json").json] == ["späte flüge"]
    listed = {info["name"]: info["status"] for info in shell("plugins", "list", "--json").json}
    assert set(nasties) <= set(listed)


def test_the_wheel_of_a_third_party_works(tmp_path: Path) -> None:
    source = shutil.copytree(PLUGINS / "acme_yard", tmp_path / "source")
    shell = Shell(tmp_path / "project", tmp_path / "site")
    shell.project.mkdir()
    built = shell.python("-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path), str(source))
    assert built.status == 0, built.err[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(shell.site)
    assert shell("init").status == 0
    shell.track_with("acme")
    (shell.project / "train.py").write_text(SCRIPT, encoding="utf-8")
    assert shell("run", "train.py").status == 0
    assert shell.plugin("acme")["distribution"] == "acme-yard"
