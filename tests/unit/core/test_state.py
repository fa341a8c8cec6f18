"""State files survive kill -9, full disks and two writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelyard.errors import ConflictError, CorruptStateError, EnvironmentFault
from modelyard.state import append_line, locked, read_json, write_bytes, write_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a folder" / "ä.json", {"x": [1, "ü"]})
    assert read_json(tmp_path / "a folder" / "ä.json") == {"x": [1, "ü"]}


def test_no_file_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") is None


def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"half":')
    with pytest.raises(CorruptStateError) as caught:
        read_json(file)
    assert caught.value.code == "state-corrupt"
    assert str(file) in caught.value.message
    assert file.read_text() == '{"half":'


_WRITER = """
import sys, itertools
from pathlib import Path
from modelyard.state import write_json
print("ready", flush=True)
for n in itertools.count():
    write_json(Path(sys.argv[1]), {"n": n, "fill": "x" * 200_000})
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    for wait in (0.01, 0.03, 0.07, 0.11, 0.13):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(file)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = read_json(file)
        assert content is None or len(content["fill"]) == 200_000


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(small_disk: Path) -> None:
    write_json(small_disk / "s.json", {"kept": True})
    with pytest.raises(EnvironmentFault) as caught:
        write_bytes(small_disk / "s.json", b"x" * 1_000_000)
    assert caught.value.code == "disk-full"
    assert read_json(small_disk / "s.json") == {"kept": True}
    assert [p.name for p in small_disk.iterdir()] == ["s.json"]


def test_a_full_disk_takes_back_half_a_line(small_disk: Path) -> None:
    log = small_disk / "log.jsonl"
    append_line(log, b'{"n":1}')
    with pytest.raises(EnvironmentFault):
        append_line(log, b"x" * 1_000_000)
    assert log.read_bytes() == b'{"n":1}\n'


def test_a_read_only_folder_is_one_sentence(read_only_folder: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        write_json(read_only_folder / "s.json", {})
    assert caught.value.code == "read-only"
    assert str(read_only_folder) in caught.value.message


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"n":1}\n{"n":')
    append_line(log, b'{"n":2}')
    assert log.read_bytes() == b'{"n":1}\n{"n":2}\n'


_HOLDER = """
import sys, time
from pathlib import Path
from modelyard.state import locked
with locked(Path(sys.argv[1]), doing="sleeping"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_one_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError) as caught, locked(lock, timeout=0.2):
            pass
        assert caught.value.code == "locked"
        assert f"process {holder.pid} (sleeping)" in caught.value.message
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(lock, timeout=5):
        pass  # the system freed it when its holder was killed


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_rights_that_the_user_wants(tmp_path: Path, umask: int, rights: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "open.json", 1)
        write_json(tmp_path / "secret.json", 1, mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "open.json").stat().st_mode & 0o777 == rights
    assert (tmp_path / "secret.json").stat().st_mode & 0o777 == 0o600
