"""The parts of the DVC plugin that work without DVC."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.digests import manifest, manifest_digest
from modelyard.errors import ConfigError, CorruptStateError
from modelyard.offers import CheckOffer, Offer
from modelyard_dvc import dvcfiles, layout, memory, objects
from modelyard_dvc.checks import check
from modelyard_dvc.config import DvcSettings
from modelyard_dvc.memory import Memory, fingerprint
from modelyard_dvc.objects import Content, Damaged, Entry


@pytest.fixture(autouse=True)
def _own_user_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "no such"))


def put(store: Path, content: bytes, *, suffix: str = "") -> str:
    oid = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    path = objects.object_path(store, oid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return oid


def dvc_file(path: Path, version: str, *, name: str | None = None, digest: str = "d") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"outs:\n- md5: {version}\n  size: 3\n  hash: md5\n  path: {path.stem}\n"
    if name:
        text += f"meta:\n  modelyard:\n    name: {name}\n    md5: {version}\n    sha256: {digest}\n"
    path.write_text(text)
    return path


def test_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, modelyard_dvc as m; list(m.modelyard_data_stores()); list(m.modelyard_checks());"
        "print(sorted({'dvc', 'pydantic', 'ruamel', 'psutil', 'filelock'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_plugin_offers_a_store_and_a_check() -> None:
    import modelyard_dvc

    (offer,) = modelyard_dvc.modelyard_data_stores()
    assert isinstance(offer, Offer)
    assert (offer.name, offer.requires, offer.install) == ("dvc", ("dvc",), "modelyard[dvc]")
    assert offer.settings is not None
    assert offer.settings() is DvcSettings
    assert all(isinstance(one, CheckOffer) for one in modelyard_dvc.modelyard_checks())


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        DvcSettings.model_validate({"remot": "x"})
    with pytest.raises(ValidationError):
        DvcSettings.model_validate({"lock_timeout": -1})


def test_the_digest_of_objects_is_that_of_the_files(tmp_path: Path) -> None:
    store, tree = tmp_path / "store", tmp_path / "tree"
    listing = []
    for name, content in (("b.csv", b"2"), ("a b/ü.csv", b"1"), ("c.csv", b"2")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
        listing.append({"md5": put(store, content), "relpath": name})
    version = put(store, json.dumps(listing).encode(), suffix=".dir")
    listed = objects.entries(version, store)
    assert listed is not None
    assert objects.content(store, listed) == Content(manifest_digest(manifest(tree)), 3, 3)
    assert objects.total_size(store, listed) == 3
    assert list(objects.differing(tree, listed)) == []
    (tree / "c.csv").write_bytes(b"3")
    assert list(objects.differing(tree, listed)) == ["c.csv"]


def test_a_damaged_object_is_never_counted_as_content(tmp_path: Path) -> None:
    oid = put(tmp_path, b"good")
    objects.object_path(tmp_path, oid).write_bytes(b"evil")
    with pytest.raises(Damaged):
        objects.content(tmp_path, [Entry("", oid)])
    assert [found.entry.oid for found in objects.damaged(tmp_path, [Entry("", oid)])] == [oid]


@pytest.mark.parametrize("place", ["../out.csv", "/etc/passwd", "a/../../out.csv"])
def test_a_listing_that_leaves_its_folder_is_refused(tmp_path: Path, place: str) -> None:
    listing = json.dumps([{"md5": put(tmp_path, b"x"), "relpath": place}]).encode()
    version = put(tmp_path, listing, suffix=".dir")
    with pytest.raises(CorruptStateError) as caught:
        objects.entries(version, tmp_path)
    assert caught.value.code == "data-corrupt"


def test_dvc_files_are_found_but_not_in_data_environments_and_other_repositories(tmp_path: Path) -> None:
    root, memory = tmp_path / "p", Memory(tmp_path / "state")
    dvc_file(root / "data" / "a.csv.dvc", "1" * 32)
    dvc_file(root / "data" / "folder.dvc", "2" * 30 + "ab.dir")
    for place in ("data/folder", ".git", "env", "sub", "node_modules"):
        dvc_file(root / place / "no.csv.dvc", "3" * 32)
    (root / "env" / "pyvenv.cfg").touch()
    (root / "sub" / ".dvc").mkdir()
    found = dvcfiles.tracked(root, memory)
    assert [(item.path, item.name) for item in found] == [("data/a.csv", "a"), ("data/folder", "folder")]


def test_a_dvc_file_is_parsed_once_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, memory = tmp_path / "p", Memory(tmp_path / "state")
    file = dvc_file(root / "a.csv.dvc", "a1" * 16)
    time.sleep(0.15)
    first = dvcfiles.tracked(root, memory)
    with monkeypatch.context() as patch:
        patch.setattr(dvcfiles, "_parse", lambda file: pytest.fail(f"{file} was parsed again"))
        assert dvcfiles.tracked(root, memory) == first
    dvc_file(file, "b2" * 16)
    assert [item.version for item in dvcfiles.tracked(root, memory)] == ["b2" * 16]


def test_two_files_of_one_name_stay_usable_and_the_chosen_name_wins(tmp_path: Path) -> None:
    dvc_file(tmp_path / "a" / "x.csv.dvc", "a1" * 16)
    dvc_file(tmp_path / "b" / "y.csv.dvc", "a2" * 16, name="x")
    found = dvcfiles.tracked(tmp_path, Memory(tmp_path / "state"))
    assert {item.path: item.name for item in found} == {"a/x.csv": "a/x.csv", "b/y.csv": "x"}


def test_a_digest_of_another_version_is_not_believed(tmp_path: Path) -> None:
    file = dvc_file(tmp_path / "x.csv.dvc", "a1" * 16, name="x", digest="d1")
    memory = Memory(tmp_path / "state")
    assert dvcfiles.tracked(tmp_path, memory)[0].digest == "d1"
    file.write_text(file.read_text().replace("- md5: " + "a1" * 16, "- md5: " + "b1" * 16))
    assert dvcfiles.tracked(tmp_path, memory)[0].digest is None


def test_other_keys_of_a_dvc_file_survive_our_note(tmp_path: Path) -> None:
    file = tmp_path / "x.csv.dvc"
    file.write_text("# keep me\nouts:\n- md5: aa\n  path: x.csv\ndesc: mine\nmeta:\n  theirs: 1\n")
    dvcfiles.write_meta(file, name="ü", version="aa", digest="dd")
    text = file.read_text()
    assert all(part in text for part in ("# keep me", "desc: mine", "theirs: 1", "name: ü", "sha256: dd"))
    before = file.stat().st_mtime_ns
    dvcfiles.write_meta(file, name="ü", version="aa", digest="dd")
    assert file.stat().st_mtime_ns == before


def test_outputs_without_a_version_or_outside_the_project_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "import.csv.dvc").write_text("outs:\n- path: import.csv\n")
    (tmp_path / "far.csv.dvc").write_text("outs:\n- md5: aa\n  path: /far/away.csv\n")
    assert dvcfiles.tracked(tmp_path, Memory(tmp_path / "state")) == []


def test_a_fingerprint_changes_with_content_names_and_rights_but_not_by_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a").write_text("1")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_TICK", 60.0)
        assert fingerprint(folder) is None, "changed just now: the next change could look the same"
    time.sleep(0.15)
    seen = [fingerprint(folder)]
    (folder / "in" / "a").read_text()
    assert fingerprint(folder) == seen[0]
    for change in (
        lambda: (folder / "in" / "a").write_text("2"),
        lambda: (folder / "in" / "b").touch(),
        lambda: (folder / "in" / "b").chmod(0o600),
        lambda: (folder / "in" / "b").rename(folder / "b"),
        lambda: os.utime(folder / "b", (1, 1)),
    ):
        change()
        time.sleep(0.15)
        seen.append(fingerprint(folder))
    assert len(set(seen)) == len(seen)


def test_the_configuration_is_read_in_dvcs_order_with_dvcs_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, repo = tmp_path / "user", tmp_path / "repo"
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(user))
    user.mkdir()
    (repo / ".dvc").mkdir(parents=True)
    (user / "config").write_text("[core]\nremote = u\n['remote \"u\"']\n    url = s3://bucket/x\n")
    assert layout.read_config(repo).remote == layout.Remote("u", "s3://bucket/x", None)
    (repo / ".dvc" / "config").write_text(
        "[cache]\n    dir = ../cache\n[core]\n    remote = r\n['remote \"r\"']\n    url = ../../st ö\n"
    )
    found = layout.read_config(repo)
    assert found.remote == layout.Remote("r", str(tmp_path / "st ö"), tmp_path / "st ö")
    assert found.cache == repo / "cache" / "files" / "md5"
    (repo / ".dvc" / "config.local").write_text("['remote \"r\"']\nurl = /elsewhere\n")
    assert (
        found.remote
        != layout.read_config(repo).remote
        == layout.Remote("r", "/elsewhere", Path("/elsewhere"))
    )


def test_comments_and_other_keys_of_the_configuration_survive(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    file = tmp_path / ".dvc" / "config"
    file.write_text("# mine\n[core]\n    autostage = true\n['remote \"old\"']\n    url = /old\n")
    layout.write_remote(tmp_path, layout.parse_remote("new store", tmp_path))
    text = file.read_text()
    assert all(part in text for part in ("# mine", "autostage = true", "/old", "verify = true"))
    remote = layout.read_config(tmp_path).remote
    assert remote is not None
    assert remote.folder == tmp_path / "new store"


def test_a_broken_configuration_names_its_file(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core\n")
    with pytest.raises(ConfigError) as caught:
        layout.read_config(tmp_path)
    assert caught.value.code == "dvc-config-invalid"
    assert str(tmp_path / ".dvc" / "config") in caught.value.message


def test_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    assert [one.status for one in check(None)] == ["ok"]
    assert [one.status for one in check(tmp_path)] == ["ok"]
    layout.init_repo(tmp_path)
    (found,) = check(tmp_path)
    assert (found.status, found.hint) == ("warning", "modelyard data remote FOLDER-OR-URL")
    layout.write_remote(tmp_path, layout.parse_remote("store", tmp_path))
    assert [one.status for one in check(tmp_path)] == ["failed"]
    (tmp_path / "store").mkdir()
    assert [one.status for one in check(tmp_path)] == ["ok"]
    (tmp_path / ".dvc" / "tmp").mkdir()
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text("{")
    assert [one.status for one in check(tmp_path)] == ["warning"]
    (tmp_path / ".dvc" / "config").write_text("[core\n")
    assert [one.status for one in check(tmp_path)] == ["failed"]
