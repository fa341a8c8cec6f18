"""Archives from anywhere: what they hold lands in the folder, or nothing is taken."""

from __future__ import annotations

import contextlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.errors import EnvironmentFault, ModelyardError
from modelyard_kserve.storage import archives

Make = Callable[[Path, dict[str, bytes]], Path]


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return folder / "a.zip"


def tarred(folder: Path, files: dict[str, bytes], name: str = "a.tar.gz", mode: str = "w:gz") -> Path:
    with tarfile.open(folder / name, mode) as made:  # type: ignore[call-overload]
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return folder / name


def unpacked(archive: Path, limit: float = 1.0) -> dict[str, bytes]:
    folder = archive.parent / "out" / "files"
    archives.unpack(archive, folder, limit, "it")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def refusal(archive: Path, limit: float = 1.0) -> ModelyardError:
    with pytest.raises(ModelyardError) as caught:
        unpacked(archive, limit)
    beside = [path for path in archive.parent.rglob("*") if path.is_file() and "files" not in path.parts]
    assert beside == [archive], "something lies outside of the folder"
    return caught.value


FILES = {"MLmodel": b"flavors: {}\n", "code/tief/__init__.py": b"", "späte flüge.bin": bytes(range(256)) * 9}


@pytest.mark.parametrize(
    "make",
    [
        zipped,
        tarred,
        lambda folder, files: tarred(folder, files, "a.tar", "w"),
        lambda folder, files: tarred(folder, files, "a.tbz2", "w:bz2"),
        lambda folder, files: tarred(folder, files, "a.TAR.XZ", "w:xz"),
    ],
)
def test_every_byte_arrives(make: Make, tmp_path: Path) -> None:
    assert unpacked(make(tmp_path, FILES)) == FILES


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "a/..\\..\\..\\evil", "\\\\host\\evil", "~/evil"]
)
def test_nothing_is_written_outside(make: Make, name: str, tmp_path: Path) -> None:
    fault = refusal(make(tmp_path, {"MLmodel": b"", name: b"x"}))
    assert (fault.code, fault.exit_status) == ("archive-invalid", 3)
    assert "would be written outside of the folder" in fault.message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        made.addfile(member)
    assert "'link' is a link or a device" in refusal(tmp_path / "a.tar").message


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(member, "/etc/passwd")
    assert "'link' is no plain file" in refusal(tmp_path / "a.zip").message


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_bomb_ends_at_the_limit(make: Make, tmp_path: Path) -> None:
    archive = make(tmp_path, {"small": b"x", "bomb": bytes(40_000_000)})
    assert archive.stat().st_size < 100_000
    fault = refusal(archive, limit=0.005)
    assert fault.code == "model-too-large"
    assert "fetch_limit" in fault.hint
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written < 8_000_000


def test_a_zip_that_lies_about_its_sizes_is_broken(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"bomb": bytes(3_000_000)})
    said = archive.read_bytes().replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(said)
    assert refusal(archive).code == "archive-invalid"


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_cut_archive_is_a_sentence(make: Make, tmp_path: Path) -> None:
    archive = make(tmp_path, FILES)
    whole = archive.read_bytes()
    for size in range(0, len(whole) - 12, 37):
        archive.write_bytes(whole[:size])
        fault = refusal(archive)
        assert fault.code == "archive-invalid", size
        assert fault.message.startswith("it can't be unpacked: ")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), byte=st.integers(0, 255), name=st.sampled_from(["zip", "tar.gz", "tar"]))
def test_a_changed_byte_is_no_traceback(
    place: float, byte: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    archive = (
        zipped(folder, FILES)
        if name == "zip"
        else tarred(folder, FILES, f"a.{name}", "w:gz" if name == "tar.gz" else "w")
    )
    content = bytearray(archive.read_bytes())
    content[int(place * (len(content) - 1))] = byte
    archive.write_bytes(bytes(content))
    with contextlib.suppress(ModelyardError):
        unpacked(archive)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"MLmodel": b"x"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(content))
    assert "it wants a password" in refusal(archive).message


def test_a_full_disk_is_said_as_such(small_disk: Path) -> None:
    archive = zipped(small_disk, {"big": bytes(1_000_000)})
    with pytest.raises(EnvironmentFault) as caught:
        unpacked(archive)
    assert caught.value.code == "disk-full"


def test_links_that_lead_out_of_what_a_library_fetched_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "MLmodel").write_text("x")
    (tmp_path / "raw" / "inside").symlink_to("MLmodel")
    archives.require_inside(tmp_path / "raw", "it")
    (tmp_path / "raw" / "out").symlink_to("/etc/passwd")
    with pytest.raises(ModelyardError, match="'out' leads out of it"):
        archives.require_inside(tmp_path / "raw", "it")
