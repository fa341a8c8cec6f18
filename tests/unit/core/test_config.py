"""Settings: precedence, and errors that name the key which was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.config import load_gates, load_settings
from modelyard.errors import ConfigError, ConflictError, NotFoundError, UsageError
from modelyard.project import create, find_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return create(tmp_path / "ein Projekt mit Umlaut ä", "late-flights")


def rewrite(root: Path, text: str) -> None:
    (root / "modelyard.toml").write_text(text, encoding="utf-8")


def test_a_new_project_has_the_default_stages(root: Path) -> None:
    settings = load_settings(root)
    assert settings.project.name == "late-flights"
    assert settings.stages.model_dump() == {
        "track": "mlflow",
        "data": "dvc",
        "registry": "mlflow",
        "serving": "kserve",
        "monitoring": "evidently",
    }


def test_init_leaves_a_project_as_it_is(root: Path) -> None:
    rewrite(root, '[project]\nname = "mine"\n')
    create(root)
    assert load_settings(root).project.name == "mine"
    with pytest.raises(ConflictError, match="'mine' already, not 'yours'"):
        create(root, "yours")


def test_flag_beats_environment_beats_file_beats_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(
        root,
        '[project]\nname = "x"\n[stages]\ntrack = "of-file"\ndata = "of-file"\nregistry = "of-file"\n',
    )
    monkeypatch.setenv("MODELYARD_STAGES__TRACK", "of-environment")
    monkeypatch.setenv("MODELYARD_STAGES__DATA", "of-environment")
    monkeypatch.setenv("MODELYARD_PROVIDERS__MLFLOW__SIZE", "3")
    settings = load_settings(root, ["stages.track=of-flag"])
    assert settings.stages.track == "of-flag"
    assert settings.stages.data == "of-environment"
    assert settings.stages.registry == "of-file"
    assert settings.stages.serving == "kserve"
    assert settings.providers == {"mlflow": {"size": 3}}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (
            '[project]\nname="x"\n[stages]\ntrak = "mlflow"\n',
            "config-unknown-key",
            "'stages.trak'; did you mean 'track'?",
        ),
        ('[project]\nname="x"\n[stage]\n', "config-unknown-key", "did you mean 'stages'?"),
        ('[project]\nname="x"\n[stages]\ntrack = 3\n', "config-wrong-value", "'stages.track' is 3"),
        ("[stages]\n", "config-missing-key", "'project' is missing"),
        ('[project]\nname="x"\n[project]\n', "config-syntax", "not valid TOML"),
        ('[project]\nname=""\n', "config-wrong-value", "'project.name' is ''"),
    ],
)
def test_a_wrong_file_is_one_sentence(root: Path, text: str, code: str, words: str) -> None:
    rewrite(root, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(root)
    assert caught.value.code == code
    assert words in caught.value.message
    assert str(root / "modelyard.toml") in caught.value.message


def test_a_file_in_another_encoding_is_one_sentence(root: Path) -> None:
    (root / "modelyard.toml").write_bytes('[project]\nname = "fl\u00fcge"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(root)


def test_a_bad_override_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match=r"TABLE\.KEY=VALUE"):
        load_settings(root, ["nonsense"])


def test_no_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_root(tmp_path)
    assert caught.value.code == "project-not-found"
    assert "modelyard init" in caught.value.hint


def test_the_project_is_found_from_a_folder_below(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    assert find_root(root / "a" / "b") == root


def test_gates_are_a_file_of_their_own(root: Path) -> None:
    assert load_gates(root) == []
    (root / "gates.toml").write_text('[[gate]]\ncheck = "metric"\nmetric = "auc"\nmin = 0.6\n')
    (gate,) = load_gates(root)
    assert (gate.check, gate.model_extra) == ("metric", {"metric": "auc", "min": 0.6})
    (root / "gates.toml").write_text('[[gates]]\ncheck = "metric"\n')
    with pytest.raises(ConfigError, match="did you mean 'gate'"):
        load_gates(root)
