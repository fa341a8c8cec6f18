"""The doctor as a whole: its catalogue, nothing installed, no network, report, fixes, command, preflight."""

from __future__ import annotations

import base64
import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from modelyard.cli.base import Session
from modelyard.components import Component
from modelyard.errors import EnvironmentFault
from modelyard_sandbox.doctor import command
from modelyard_sandbox.doctor import report as reports
from modelyard_sandbox.doctor.catalogue import CHECKS
from modelyard_sandbox.doctor.command import doctor
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Check, check, examine, ok
from modelyard_sandbox.doctor.preflight import preflight
from modelyard_sandbox.doctor.redaction import Redactor
from modelyard_sandbox.errors import ClusterFailed, EngineUnavailable, PreflightFailed, Unsupported

#: What others stumble over, and the check that looks for it.
ROWS = {
    1: "inotify",
    2: "other-clusters",
    3: "memory",
    4: "docker-disk",
    5: "ports",
    6: "localhost",
    7: "cgroup-v1",
    8: "node-systemd",
    9: "rootless",
    10: "privileged",
    11: "image-platforms",
    12: "node-images",
    13: "image-pulls",
    14: "ca",
    15: "docker-proxy",
    16: "docker-hub",
    17: "registry-mirrors",
    18: "routes",
    19: "kubeconfig",
    20: "node-stopped",
    21: "webhooks",
    22: "definitions",
    23: "annotations",
    24: "helm",
    25: "last-run",
    26: "namespaces",
    27: "tag-resolving",
    28: "mlflow-hosts",
    29: "mlflow-drivers",
    30: "s3-checksums",
    31: "s3-annotations",
    32: "downloads",
    33: "docker-snap",
    34: "kubectl-skew",
    35: "kind",
}


def test_every_row_has_a_check_and_ids_are_unique() -> None:
    ids = [one.id for one in CHECKS]
    assert len(set(ids)) == len(ids)
    assert set(ROWS.values()) <= set(ids)
    assert len(set(ROWS.values())) == 35


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.id)
def test_where_all_is_well_a_check_finds_nothing(one: Check, world: Any) -> None:
    found = world.finding(one.id)
    assert (found.level, found.fix) == ("ok", ""), found
    assert found.evidence


def test_a_check_that_fails_itself_hides_no_other(world: Any) -> None:
    @check("broken", "broken")
    def broken(_: Any) -> Any:
        raise KeyError("oops")

    @check("fine", "fine")
    def fine(_: Any) -> Any:
        return ok("fine")

    found = examine(world.facts(), (broken, fine))
    assert [one.level for one in found] == ["warning", "ok"]
    assert "KeyError: 'oops'" in found[0].evidence


# -- nothing installed ------------------------------------------------------------------------

_NOTHING = """
import socket, sys
for name in ("docker", "kubernetes", "yaml", "cryptography", "mlflow", "kserve", "dvc", "boto3"):
    sys.modules[name] = None

def leave(self, address):
    raise SystemExit(f"a connection to {address}")

socket.socket.connect = leave
from modelyard.cli.base import Session
from modelyard_sandbox.doctor.command import doctor
doctor.main(["--json", "--report", sys.argv[1]], obj=Session(None, ()))
"""


def test_it_works_with_nothing_installed(tmp_path: Path) -> None:
    """No package, no program, no engine, no sandbox, no network."""
    env = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}
    env |= {name: value for name, value in os.environ.items() if name.startswith("MODELYARD_TEST")}
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-c", _NOTHING, str(report)],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {one["id"]: one for one in json.loads(done.stdout)["findings"]}
    assert len(found) == len(CHECKS)
    errors = {name for name, one in found.items() if one["level"] == "error"}
    assert errors == {"packages", "docker", "docker-command", "kind"}
    assert not [one for one in found.values() if "failed" in one["evidence"]]
    assert json.loads(report.read_text())["findings"]
    assert not (tmp_path / ".local").exists()


# -- the report -------------------------------------------------------------------------------


def test_the_report_holds_everything_but_secrets(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "AKsecretOfSomebody")
    login = base64.b64encode(b"me:hubPassword").decode()
    (world.home / ".docker").mkdir()
    (world.home / ".docker/config.json").write_text(json.dumps({"auths": {"docker.io": {"auth": login}}}))
    password = world.folder.secret("mlflow-password")
    authority = world.folder.secrets()["authority"]
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
    encoded = base64.b64encode(password.encode()).decode()
    world.run(
        {"type": "log", "msg": f"mlflow took {password} and {encoded} from {authority}"},
        {
            "type": "log",
            "msg": "hunter2 failed; Authorization: Bearer abcdef0123456789",
            "password": "very-plain-one",
        },
        {"type": "log", "msg": f"a token {token} at postgresql://postgres:pgSecret@db:5432/x"},
        {"type": "error", "code": "x", "msg": f"AKsecretOfSomebody {login} s3_secret_key=looksLikeOne"},
        run="z",
    )
    report = tmp_path / "report.json"
    result = _doctor(world, monkeypatch, "--report", str(report))
    assert f"written, without secrets: {report}" in result.output
    assert report.stat().st_mode & 0o777 == 0o600

    kept = report.read_text() + result.output
    secrets = [
        *world.folder.secrets().values(),
        *(line for line in authority.splitlines() if not line.startswith("---")),
        encoded, "hunter2", "AKsecretOfSomebody", login, token, "abcdef0123456789", "very-plain-one",
        "pgSecret", "looksLikeOne", world.facts().sandbox.kubeconfig_value("client-key-data"),
    ]  # fmt: skip
    assert len(secrets) > 10
    for secret in secrets:
        assert secret not in kept
        assert json.dumps(secret)[1:-1] not in kept

    told = json.loads(report.read_text())
    assert told["docker"]["info"]["ServerVersion"] == "27.3.1"
    assert told["cluster"]["components"][0]["name"] == "postgres"
    assert told["folder"]["state"]["profile"] == "full"
    assert told["versions"]["kind"].startswith("kind v0.33.0")
    assert told["machine"]["proxies"]["https"] == "http://proxy.example.org:3128"
    assert len(told["events"]) == 6
    assert len(told["findings"]) == len(CHECKS)


def test_a_report_that_can_not_be_written(world: Any, read_only_folder: Path) -> None:
    facts = world.facts()
    with pytest.raises(EnvironmentFault) as caught:
        reports.write(read_only_folder / "report.json", facts, [])
    assert caught.value.code == "read-only"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:p@ss@host/x", "http://(removed)@host/x"),
        ("see https://example.org/a and me@example.org", "see https://example.org/a and me@example.org"),
        ("PGPASSWORD=abcdef psql", "PGPASSWORD=(removed) psql"),
        ('{"token": "abcdefgh"}', '{"token": "(removed)"}'),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nrest", "(removed)\nrest"),
        ("mine", "mine"),
        ("is it a b%2Fcdefg? base64: YS9iY2RlZmc=", "is it a b%2Fcdefg? base64: YS9iY2RlZmc="),
        ("known: s3cr/et, s3cr%2Fet, czNjci9ldA==", "known: (removed), (removed), (removed)"),
    ],
)
def test_what_is_taken_for_a_secret(text: str, expected: str) -> None:
    assert Redactor(["s3cr/et", "in"]).text(text) == expected


# -- the command ------------------------------------------------------------------------------


def test_problems_come_first_and_decide_the_exit_status(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _doctor(world, monkeypatch)
    assert result.exit_code == 0
    assert "error" not in result.output.splitlines()[-1]
    world.info["NCPU"] = 1
    world.info["CgroupVersion"] = "1"
    result = _doctor(world, monkeypatch)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].split()[:4] == ["CHECK", "STATE", "EVIDENCE", "FIX"]
    assert lines[1].startswith("cpus")
    assert "give Docker's machine more processors" in lines[1]
    assert [line.split()[1] for line in lines[2:4]] == ["warning", "warning"]
    assert lines[-1].startswith("1 error, 2 warning, ")


def test_json_holds_every_finding(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(_doctor(world, monkeypatch, "--json").output)
    assert (told["ok"], told["fixed"], told["report"]) == (True, {}, None)
    assert set(told["findings"][0]) == {"id", "title", "level", "evidence", "fix", "fixable", "refuses"}


def test_help_has_an_example() -> None:
    assert "modelyard sandbox doctor --fix" in CliRunner().invoke(doctor, ["--help"]).output


# -- fixes ------------------------------------------------------------------------------------


def test_fixes_heal_and_do_nothing_the_second_time(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.without_node()
    world.kube.close()
    world.mlflow.close()
    (world.folder.path / "secrets.json").chmod(0o644)
    lock = Path(f"{world.folder.kubeconfig}.lock")
    lock.touch()
    os.utime(lock, (1_700_000_000, 1_700_000_000))
    world.file("proc/sys/fs/inotify/max_user_instances", "128\n")
    before = world.folder.state()["ports"]
    wanted = {"rights", "kubeconfig-lock", "ports"} | ({"inotify"} if os.geteuid() == 0 else set())

    with socket.socket() as other:
        other.bind(("127.0.0.1", before["s3"]))
        other.listen()
        told = json.loads(_doctor(world, monkeypatch, "--fix", "--json").output)
        assert set(told["fixed"]) == wanted
        healed = {one["id"]: one["level"] for one in told["findings"] if one["id"] in wanted}
        assert set(healed.values()) == {"ok"}
        assert world.folder.state()["ports"] == {name: before[name] for name in ("api", "mlflow")}
        assert not lock.exists()
        state = _everything_below(world)
        again = json.loads(_doctor(world, monkeypatch, "--fix", "--json").output)
    assert again["fixed"] == {}
    assert _everything_below(world) == state


@pytest.mark.parametrize("one", [one for one in CHECKS if one.repair], ids=lambda one: one.id)
def test_a_fix_where_nothing_is_wrong_changes_nothing(one: Check, world: Any) -> None:
    world.program("kind", "Set kubectl context")
    world.without_node()
    world.kube.close()
    world.mlflow.close()
    if one.id == "inotify":
        world.file("etc/sysctl.d/60-modelyard.conf", "")
    before = _everything_below(world)
    assert one.repair is not None
    for _ in range(2):
        assert one.repair(world.facts())
    assert _everything_below(world) == before


def test_a_kubeconfig_is_written_anew(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good = world.folder.kubeconfig.read_text()
    (world.bin / "good").write_text(good)
    world.folder.kubeconfig.unlink()
    (world.bin / "kind").write_text(
        f'#!/bin/sh\ntest "$1" = export && cp {world.bin}/good "$6"\necho kind v0.33.0\n'
    )
    told = json.loads(_doctor(world, monkeypatch, "--fix", "--json").output)
    assert told["fixed"] == {"kubeconfig": f"wrote {world.folder.kubeconfig}"}
    assert world.folder.kubeconfig.read_text() == good
    assert world.folder.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_fix_that_fails_says_why(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.folder.kubeconfig.unlink()
    (world.bin / "kind").write_text("#!/bin/sh\necho kind v0.33.0\necho no such cluster >&2\nexit 1\n")
    result = _doctor(world, monkeypatch, "--fix")
    assert result.exit_code == 1
    assert "fix kubeconfig: could not: `kind export kubeconfig" in result.output
    assert "no such cluster" in result.output


# -- the preflight ----------------------------------------------------------------------------


def test_a_good_machine_passes_quickly_and_nothing_is_said(world: Any) -> None:
    said: list[str] = []
    began = time.monotonic()
    _preflight(world, said=said)
    assert time.monotonic() - began < 10
    assert said == []


def test_the_preflight_asks_neither_cluster_nor_node(world: Any) -> None:
    _preflight(world)
    assert world.kube.asked == world.mlflow.asked == world.asked_node == []
    assert world.docker.asked


def test_everything_that_refuses_is_listed(world: Any) -> None:
    world.info["NCPU"] = 1
    world.info["MemTotal"] = 1_000_000_000
    world.info["CgroupVersion"] = "1"
    said: list[str] = []
    with pytest.raises(PreflightFailed) as caught:
        _preflight(world, said=said)
    fault = caught.value
    assert (fault.code, fault.exit_status) == ("preflight-failed", 3)
    assert "memory: " in fault.message
    assert "processors: " in fault.message
    assert "--force" in fault.hint
    listed = {one["id"] for one in fault.details["findings"]}  # type: ignore[attr-defined]
    assert {"memory", "cpus", "cgroup-v1"} <= listed
    assert [one for one in said if "cgroup" in one]

    said.clear()
    _preflight(world, force=True, said=said)
    assert [one for one in said if one.startswith("memory: ")]


def test_the_wanted_profile_counts_not_the_one_from_before(world: Any) -> None:
    world.info["MemTotal"] = 4_100_000_000
    _preflight(world, profile="minimal")
    with pytest.raises(PreflightFailed):
        _preflight(world, profile="full")


@pytest.mark.parametrize("force", [False, True])
def test_without_an_engine_nothing_can_be_forced(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, force: bool
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnavailable) as caught:
        _preflight(world, force=force)
    assert (caught.value.code, caught.value.exit_status) == ("docker-unreachable", 5)
    assert "--force" not in caught.value.hint


def test_without_kind_the_error_says_how_to_get_it(world: Any) -> None:
    (world.bin / "kind").unlink()
    with pytest.raises(EngineUnavailable) as caught:
        _preflight(world)
    assert caught.value.code == "kind-missing"
    assert "go install" in caught.value.hint


def test_a_foreign_cluster_is_never_forced(world: Any) -> None:
    world.node["Mounts"] = []
    with pytest.raises(ClusterFailed) as caught:
        _preflight(world, force=True)
    assert caught.value.code == "cluster-foreign"


def test_a_processor_without_images_has_a_status_of_its_own(world: Any) -> None:
    world.info["Architecture"] = "riscv64"
    with pytest.raises(Unsupported) as caught:
        _preflight(world)
    assert caught.value.exit_status == 11


def test_what_a_plugin_brings_is_not_asked_for_its_platform(world: Any) -> None:
    """Its images are in no lock."""
    own = Component(name="own", summary="", version="1", objects=lambda _: (), images=("example.org/own:1",))
    world.info["Architecture"] = "riscv64"
    preflight(world.folder, [own], "full", force=False, say=print, facts=world.facts(components=[own]))


def _preflight(
    world: Any, *, profile: str = "full", force: bool = False, said: list[str] | None = None
) -> None:
    facts = world.facts(profile=profile)
    say = (said if said is not None else []).append
    preflight(world.folder, facts.components, profile, force=force, say=say, facts=facts)


def _doctor(world: Any, monkeypatch: pytest.MonkeyPatch, *argv: str) -> Any:
    monkeypatch.setattr(command, "Facts", functools.partial(Facts, root=world.root))
    result = CliRunner().invoke(doctor, list(argv), obj=Session(None, ()))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _everything_below(world: Any) -> dict[str, tuple[int, bytes]]:
    """Files with rights and content, but for the lock that every change takes."""
    files = [*world.folder.path.rglob("*"), *world.root.rglob("*")]
    return {
        str(file): (file.stat().st_mode, file.read_bytes())
        for file in files
        if file.is_file() and not file.name.startswith("change.")
    }
