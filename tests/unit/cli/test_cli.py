"""The command line: light, lazy, and every failure one sentence with a code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from modelyard.cli import cli
from modelyard.cli.base import LazyGroup

HEAVY = {"mlflow", "dvc", "evidently", "kserve", "kubernetes", "fastapi", "sqlalchemy"}
HEAVY |= {"pandas", "numpy", "sklearn", "scipy", "pyarrow", "duckdb"}


def modelyard(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "späte flüge"
    assert modelyard("init", str(folder), "--name", "late-flights", cwd=tmp_path).returncode == 0
    return folder


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, (*words, name)
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


EVERY = [pytest.param(words, command, id=" ".join(words)) for words, command in commands(cli)]


@pytest.mark.parametrize(("words", "command"), EVERY)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], command: click.Command) -> None:
    text = command.get_help(click.Context(command))
    assert f"modelyard {words[0]}" in text.partition("Example:")[2], text


@pytest.mark.parametrize(("words", "command"), EVERY)
def test_every_command_has_json(words: tuple[str, ...], command: click.Command) -> None:
    if isinstance(command, click.Group) or words == ("run",):
        return  # `run` passes the output of somebody else's program on
    assert any("--json" in parameter.opts for parameter in command.params)


def test_the_short_help_names_real_subcommands() -> None:
    assert isinstance(cli, LazyGroup)
    for name, (_, text) in cli._lazy.items():
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            listed = text.partition(": ")[2].rstrip(".").split(", ")
            assert set(listed) <= set(command.commands), name


@pytest.mark.parametrize("words", [("--help",), ("status",), ("history",), ("plugins", "list"), ("logs",)])
def test_light_commands_import_nothing_heavy(words: tuple[str, ...], project: Path) -> None:
    probe = (
        "import sys, json\n"
        "from modelyard.cli import main\n"
        f"try: main({list(words)!r})\n"
        "except SystemExit as done: status = done.code\n"
        "print('MODULES', json.dumps([status, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, modules = json.loads(done.stdout.partition("MODULES ")[2])
    assert status == 0
    assert not HEAVY & set(modules)


def test_no_project_is_status_4_with_the_next_command(tmp_path: Path) -> None:
    done = modelyard("status", cwd=tmp_path)
    assert done.returncode == 4
    assert "error: no modelyard.toml in" in done.stderr
    assert "next: make a project here: modelyard init" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_errors_are_json(tmp_path: Path) -> None:
    done = modelyard("status", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["error"]["code"] == "project-not-found"
    assert done.returncode == 4


def test_a_mistyped_command_is_recognised(tmp_path: Path) -> None:
    done = modelyard("promot", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'promote'?" in done.stderr


def test_an_unknown_key_is_named_from_the_command_line(project: Path) -> None:
    with (project / "modelyard.toml").open("a") as file:
        file.write('montoring = "evidently"\n')
    done = modelyard("runs", "list", cwd=project)
    assert done.returncode == 3
    assert "did you mean 'monitoring'?" in done.stderr


def test_a_provider_that_nobody_offers_lists_who_does(project: Path) -> None:
    done = modelyard("--set", "stages.track=mlfow", "runs", "list", cwd=project)
    assert done.returncode == 3
    assert "nobody offers the track provider 'mlfow'; offered: mlflow (by modelyard)" in done.stderr
    assert '`track = "mlflow"`' in done.stderr


def test_a_corrupt_service_file_is_named(project: Path) -> None:
    services = project / ".modelyard" / "services"
    services.mkdir(parents=True)
    (services / "monitor.json").write_text("{")
    done = modelyard("logs", "monitor", cwd=project)
    assert done.returncode == 9
    assert "monitor.json is damaged" in done.stderr
    found = modelyard("doctor", cwd=project)
    assert found.returncode == 8
    assert "FAIL  services: monitor died: " in found.stdout
    assert "monitor.json is damaged" in found.stdout


def test_the_doctor_reads_the_settings_of_every_provider(project: Path) -> None:
    def doctor(table: str) -> str:
        with (project / "modelyard.toml").open("a") as file:
            file.write(table)
        return modelyard("doctor", cwd=project).stdout

    said = doctor("[providers.kserv]\n")
    assert "warn  providers.kserv: nobody offers a provider 'kserv'" in said
    assert "did you mean [providers.kserve]?" in said
    said = doctor("[providers.kserve]\nready_timout = 5\n")
    assert "FAIL  settings: " in said
    assert "unknown key 'providers.kserve.ready_timout'; did you mean 'ready_timeout'?" in said


def test_two_plugins_that_offer_one_name_fail_the_check(project: Path) -> None:
    (project / "modelyardfile.py").write_text(
        "import modelyard\n"
        "from modelyard.offers import Offer\n"
        "@modelyard.hookimpl\n"
        "def modelyard_trackers():\n"
        "    yield Offer(name='mlflow', factory=dict, summary='mine')\n"
    )
    done = modelyard("plugins", "check", "modelyardfile.py", cwd=project)
    assert done.returncode == 3
    assert "the track provider 'mlflow' is offered by mlflow (from modelyard) too" in done.stdout


def test_a_broken_ledger_is_status_9(project: Path) -> None:
    ledger = project / ".modelyard" / "ledger"
    ledger.mkdir()
    (ledger / "late-flights.jsonl").write_text('{"seq": 1}\n')
    done = modelyard("history", cwd=project)
    assert done.returncode == 9
    assert "late-flights.jsonl, line 1" in done.stderr


def test_nothing_of_a_reader_that_left_is_an_error(project: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m modelyard plugins list | head -n 1",
        shell=True, cwd=project, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("PLUGIN")
    assert done.stderr == ""


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    old = next((found for v in ("3.9", "3.8", "3.7") if (found := _python(v))), None)
    if old is None:
        pytest.skip("no Python older than 3.10 on this machine")
    core = Path(__file__).parents[3] / "core"
    done = subprocess.run(
        [old, "-m", "modelyard", "--help"],
        env={**os.environ, "PYTHONPATH": str(core)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 7
    assert "needs Python 3.10 or newer" in done.stderr
    assert "Traceback" not in done.stderr


def _python(version: str) -> str | None:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(versions.glob(f"{version}.*/bin/python"))
    return shutil.which(f"python{version}.real") or (str(installed[0]) if installed else None)


def test_run_passes_the_exit_status_and_the_project_on(project: Path, tmp_path: Path) -> None:
    script = tmp_path / "ein skript.py"
    script.write_text("import os, sys; print(os.environ['MODELYARD_PROJECT']); sys.exit(int(sys.argv[1]))")
    done = modelyard("run", str(script), "7", cwd=project)
    assert (done.returncode, done.stdout.strip()) == (7, str(project))
    assert modelyard("run", "--", "sh", "-c", "exit 3", cwd=project).returncode == 3
    missing = modelyard("run", "absent.py", cwd=project)
    assert missing.returncode == 4
    assert "there is no file absent.py" in missing.stderr
