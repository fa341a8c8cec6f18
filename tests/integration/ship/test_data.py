"""DVC on a target: its storage is the remote, and its password is nowhere but in memory."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from modelyard.digests import manifest
from modelyard.errors import CorruptStateError, EnvironmentFault, NotFoundError, UsageError

pytest.importorskip("dvc_s3")


@pytest.fixture
def tree(project: Any) -> Path:
    folder = project.root / "data" / "täglich es"
    for name in ("a.csv", "unter ordner/b ü.csv", "leer.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("" if name == "leer.csv" else name * 1000)
    project.here.data.add(folder)
    return folder


def stored(project: Any) -> dict[str, bytes]:
    """The objects of the project in the bucket, by DVC's name for them."""
    place = f"{project.root.parent.name}/files/md5/"
    found = project.gateway.objects("dvc")
    return {
        key.removeprefix(place).replace("/", ""): content
        for key, content in found.items()
        if key.startswith(place)
    }


def in_cache(project: Any, name: str) -> Path:
    return Path(project.root / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:])


def forget(project: Any, *folders: Path) -> None:
    for folder in (*folders, project.root / ".dvc" / "cache"):
        shutil.rmtree(folder)


def test_a_target_pushes_to_its_storage_and_pulls_from_it(project: Any, tree: Path) -> None:
    before = manifest(tree)
    (pushed,) = project.there.data.push()
    assert pushed.remote == f"s3://dvc/{project.root.parent.name}"
    assert project.there.data.remote() == pushed.remote
    assert project.here.data.remote() is None, "the project itself still has none"
    assert pushed.version in stored(project)
    forget(project, tree)
    (pulled,) = project.there.data.pull()
    assert manifest(tree) == before
    assert pulled.digest == pushed.digest
    with pytest.raises(UsageError) as refused:
        project.there.data.set_remote("s3://elsewhere")
    assert refused.value.code == "remote-of-target"


def test_no_password_is_written_anywhere(project: Any, tree: Path) -> None:
    project.there.data.push()
    forget(project, tree)
    project.there.data.pull()
    places = [project.root, Path(os.environ["HOME"])]
    files = (file for place in places for file in place.rglob("*") if file.is_file())
    holding = [file for file in files if b"s3cret" in file.read_bytes() and file.name != "cluster.json"]
    assert holding == []
    assert "target" not in (project.root / ".dvc" / "config").read_text()


def test_a_damaged_object_of_the_cache_never_reaches_the_bucket(project: Any, tree: Path) -> None:
    (ref,) = project.there.data.list()
    good = (tree / "unter ordner" / "b ü.csv").read_bytes()
    (file,) = (
        f for f in (project.root / ".dvc" / "cache").rglob("*") if f.is_file() and f.read_bytes() == good
    )
    file.chmod(0o644)
    file.write_bytes(b"X" + good[1:])
    with pytest.raises(CorruptStateError, match="unter ordner/b ü") as damaged:
        project.there.store.publish([ref])
    assert damaged.value.code == "data-corrupt"
    assert file.parent.name + file.name not in stored(project)
    assert ref.version not in stored(project), "the listing comes last, so nobody reads half a folder"


def test_an_object_that_was_changed_in_the_bucket_is_sent_again(project: Any, tree: Path) -> None:
    project.there.data.push()
    (ref,) = project.there.data.list()
    good = stored(project)
    name = next(name for name, content in good.items() if b"b \xc3\xbc.csv" in content and "." not in name)
    key = project.gateway.folder / "dvc" / project.root.parent.name / "files" / "md5" / name[:2] / name[2:]
    content = key.read_bytes()
    key.unlink()
    bucket = project.there.store._configured_remote().bucket
    changed = project.root / "changed"
    changed.write_bytes(content[::-1])
    bucket.put(f"files/md5/{name[:2]}/{name[2:]}", changed)
    assert project.there.store.lacking([ref]) == [len(content)]
    project.there.store.publish([ref])
    assert stored(project) == good


def test_what_a_large_file_needs_is_left_to_dvc(
    project: Any, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 takes 5 GB at once; the limit is lowered here."""
    import modelyard_dvc.upload

    monkeypatch.setattr(modelyard_dvc.upload, "LARGEST", 10_000)
    before = manifest(tree)
    (pushed,) = project.there.data.push()
    assert pushed.published
    assert len(stored(project)) == 4
    assert project.there.store.lacking([pushed]) == [0]
    forget(project, tree)
    project.there.data.pull()
    assert manifest(tree) == before


def test_data_that_was_deleted_in_the_bucket_is_lacking_again(project: Any, tree: Path) -> None:
    """Whatever was noted: the bucket is asked."""
    project.there.data.push()
    (ref,) = project.there.data.list()
    assert project.there.store.lacking([ref]) == [0]
    shutil.rmtree(project.gateway.folder / "dvc" / project.root.parent.name)
    (lacking,) = project.there.store.lacking([ref])
    assert lacking is not None
    assert lacking >= ref.size
    assert project.there.store.publish([ref])[0].published
    assert project.there.store.lacking([ref]) == [0]


def test_what_neither_side_has_can_not_be_pushed(project: Any, tree: Path) -> None:
    forget(project)
    (ref,) = project.there.data.list()
    assert project.there.store.lacking([ref]) == [None]
    with pytest.raises(NotFoundError) as missing:
        project.there.data.push()
    assert missing.value.code == "data-not-in-cache"


def test_a_colleague_who_has_the_listing_alone_in_the_bucket_knows_that_it_is_whole(
    project: Any, tree: Path
) -> None:
    """As after a fresh clone: nothing is here, everything is there."""
    project.there.data.push()
    forget(project)
    (ref,) = project.there.data.list()
    assert project.there.store.lacking([ref]) == [0]
    assert project.there.store.publish([ref])[0].published


def test_a_target_without_storage_says_what_to_write(project: Any, tree: Path) -> None:
    project.say_where(s3={"storage": ""})
    status, said, errors = project.run("ship", "--to", "cluster")
    assert (status, said) == (3, "")
    assert "[targets.cluster.services.s3] storage" in errors


def test_storage_that_does_not_answer_is_said(project: Any, tree: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        project.say_where(s3={"url": f"http://127.0.0.1:{taken.getsockname()[1]}"})
        for lost, call in (([], project.there.data.push), ([tree], project.there.data.pull)):
            if lost:
                forget(project, *lost)
            with pytest.raises(EnvironmentFault) as down:
                call()
            assert down.value.code == "remote-unreachable"
