"""What a sandbox remembers on this machine: private, whole, made once."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from modelyard.errors import UsageError
from modelyard_sandbox import certificates
from modelyard_sandbox.errors import SandboxLocked
from modelyard_sandbox.folder import SandboxFolder, sandboxes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxFolder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "état"))
    found = SandboxFolder("trial")
    found.prepare()
    return found


@pytest.mark.parametrize("name", ["", "Big", "a_b", "-a", "a-", "a/b", "..", "x" * 31, "a b"])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(UsageError, match="can't be a sandbox's name"):
        SandboxFolder(name)


def test_everything_is_the_users_alone(folder: SandboxFolder) -> None:
    folder.secret("one")
    folder.remember(profile="full")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for name in ("state.json", "secrets.json"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600


def test_a_secret_is_made_once_and_is_long(folder: SandboxFolder) -> None:
    first = folder.secret("password")
    assert first == folder.secret("password") != folder.secret("other")
    assert len(first) == 32
    assert first.isalnum()


def test_many_at_once_make_one_secret_each(folder: SandboxFolder) -> None:
    found: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((f"s{n % 4}", folder.secret(f"s{n % 4}"))))  # type: ignore[misc]
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = folder.secrets()
    assert kept.keys() == {"s0", "s1", "s2", "s3"}
    assert len(found) == 16
    assert all(kept[name] == value for name, value in found)


def test_state_is_merged_and_none_removes(folder: SandboxFolder) -> None:
    folder.remember(profile="full", bundle="x")
    folder.remember(bundle=None, container="c")
    assert folder.state() == {"profile": "full", "container": "c"}
    assert sandboxes() == ["trial"]


def test_two_commands_do_not_change_it_at_once(folder: SandboxFolder) -> None:
    with (
        folder.held("sandbox up"),
        pytest.raises(SandboxLocked, match="is being changed by") as fault,
        folder.held("x"),
    ):
        pass
    assert fault.value.exit_status == 10
    with folder.held("sandbox up"):
        pass


def test_what_is_applied_can_be_read_and_holds_no_secret(folder: SandboxFolder) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aGlkZGVu"}}
    folder.write_applied(
        "part", [secret, {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}]
    )
    text = (folder.path / "manifests" / "part.yaml").read_text()
    assert "aGlkZGVu" not in text
    assert "token: (in secrets.json)" in text
    assert "a: b" in text


def test_events_are_turned_over_and_a_full_disk_does_not_hide_a_fault(
    folder: SandboxFolder, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.path / "events.jsonl"
    file.write_bytes(b"x" * 5_000_001)
    folder.append_event({"msg": "new"})
    assert file.read_text() == '{"msg": "new"}\n'
    monkeypatch.setenv("XDG_STATE_HOME", str(small_disk))
    other = SandboxFolder("full")
    other.prepare()
    (small_disk / "filler").write_bytes(b"x" * 100_000)
    for _ in range(2000):
        other.append_event({"msg": "long " * 100})


# -- certificates -----------------------------------------------------------------------------------


def test_a_certificate_is_of_its_authority_and_for_its_names() -> None:
    authority, key = certificates.make_authority("trial")
    other, _ = certificates.make_authority("other")
    name = "a-very-long-service-name-that-does-not-fit-into-a-common-name.kserve.svc"
    made, _ = certificates.make_certificate(authority, key, [name, "short.kserve.svc"])
    from cryptography import x509

    read = x509.load_pem_x509_certificate(made.encode())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name, "short.kserve.svc"]
    assert certificates.is_issued_by(made, authority)
    assert not certificates.is_issued_by(made, other)
    assert certificates.is_current(made)


def test_what_ends_within_a_month_is_made_anew(
    folder: SandboxFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, key = certificates.make_authority("trial")
    from datetime import timedelta

    with monkeypatch.context() as patch:
        patch.setattr(certificates, "_YEAR", timedelta(days=20))
        ending, _ = certificates.make_certificate(authority, key, ["x"])
    assert not certificates.is_current(ending)
    kept = folder.keep_secret("c", lambda: ending)
    assert folder.keep_secret("c", lambda: "new", is_good=certificates.is_current) == "new" != kept
