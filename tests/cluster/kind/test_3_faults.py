"""What goes wrong with a sandbox that runs, and what is said and healed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.cluster.kind.conftest import BUNDLE, CACHE, WITHOUT, Box, eventually

STAND_INS = Path(__file__).parents[1] / "images" / "stand-ins.toml"
MANIFESTS = CACHE / "manifests-of-releases"
PLUGIN = """
import modelyard
from modelyard.components import Component, Port
from modelyard.kube.objects import config, deployment, resources, service

def objects(site):
    yield config("hello", {"index.html": "hello from a plugin\\n"})
    yield service("hello", 8000, node_port=30444)
    made = deployment("hello", {
        "image": site.image(IMAGE),
        "command": ["python3", "-m", "http.server", "8000", "--directory", "/pages"],
        "resources": resources("32Mi", "128Mi"),
        "volumeMounts": [{"name": "pages", "mountPath": "/pages"}],
    }, user=1000, data="")
    made["spec"]["template"]["spec"]["volumes"] = [{"name": "pages", "configMap": {"name": "hello"}}]
    yield made

def probe(visit):
    pods = visit.cluster.find("v1", "Pod", namespace="modelyard", labels="app=hello")
    return None if pods else "its pod"

IMAGE = "ghcr.io/modelyard/stack:0.1.0"

@modelyard.hookimpl
def modelyard_sandbox_components():
    yield Component(name="hello", summary="a page", version="VERSION", objects=objects, images=(IMAGE,),
                    profiles=PROFILES, requires=("s3",), probe=probe)
"""


def _plugin(folder: Path, *, version: str = "1", profiles: str = "()") -> dict[str, str]:
    """The environment in which a distribution with a component of its own is installed."""
    about = folder / "acme_hello-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-hello\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[modelyard]\nhello = acme_hello\n")
    text = PLUGIN.replace("VERSION", version).replace("PROFILES", profiles)
    (folder / "acme_hello.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def _up(box: Box, env: dict[str, str], *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "modelyard", "sandbox", "up", "--name", box.name, "--json", *args],
        env={**box.env, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_third_partys_component_comes_changes_and_goes(box: Box, tmp_path: Path) -> None:
    env = _plugin(tmp_path)
    assert "hello" in _up(box, env, "--with", "hello", *WITHOUT)["changed"]
    # Its pod runs, and says nothing of when its server listens.
    page = eventually(lambda: _page(box), "the plugin's page")
    assert page == "hello from a plugin\n"
    assert _up(box, _plugin(tmp_path, version="2"))["changed"] == ["hello"]
    assert "-hello" in box.up()["changed"], "the plugin is gone, and with it its component"
    assert "hello" not in box.kubectl("-n", "modelyard", "get", "deploy,service,configmap", "-o", "name")


def _page(box: Box) -> str:
    try:
        return box.kubectl("get", "--raw", "/api/v1/namespaces/modelyard/services/hello:8000/proxy/")
    except subprocess.CalledProcessError:
        return ""


def test_postgres_killed_while_mlflow_writes_loses_nothing_that_was_answered(
    box: Box, tmp_path: Path
) -> None:
    script = tmp_path / "write.py"
    script.write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time, mlflow
            mended = pathlib.Path(sys.argv[1])
            client = mlflow.MlflowClient()
            run = client.create_run(client.create_experiment("killed")).info.run_id
            print(run, flush=True)
            done, last, until = 0, None, time.monotonic() + 240
            while last is None or done < last:
                if time.monotonic() > until:
                    sys.exit("nothing is written any more")
                if last is None and mended.exists():
                    last = done + 40
                try:
                    client.log_metric(run, "step", done, step=done)
                    done += 1
                except Exception:
                    time.sleep(0.2)
                if done % 20 == 0:
                    print(done, flush=True)
            print("done", done, flush=True)
            """
        )
    )
    env = {**box.env, **box.json("env"), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    mended = tmp_path / "mended"
    command = [sys.executable, str(script), str(mended)]
    writer = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        run = writer.stdout.readline().strip()
        writer.stdout.readline()  # it writes
        pid = _postgres(box)
        assert pid
        box.on_node("kill", "-9", pid)
        eventually(lambda: _postgres(box) not in ("", pid), "another PostgreSQL")
        mended.touch()
        said = writer.communicate(timeout=300)[0].split()
    finally:
        writer.kill()
    assert writer.returncode == 0, said
    written = int(said[said.index("done") + 1])
    assert written > 40
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import mlflow; found = mlflow.MlflowClient().get_metric_history('{run}', 'step')\n"
            "print(len({metric.step for metric in found}))",
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(found.stdout.split()[-1]) >= written
    assert box.up()["ok"]


def _postgres(box: Box) -> str:
    """Its first process on the node."""
    try:
        return box.on_node("pgrep", "-o", "-f", "postgres -D /data/pg").split()[0]
    except subprocess.CalledProcessError:  # there is none
        return ""


def test_a_webhook_that_does_not_answer_is_named(box: Box) -> None:
    box.kubectl("-n", "kserve", "scale", "deploy/kserve-controller-manager", "--replicas=0")
    eventually(
        lambda: "kserve-controller" not in box.kubectl("-n", "kserve", "get", "pods", "-o", "name"),
        "the controller's pod to end",
    )
    status = box.run("status", status=1).stdout
    assert "kserve" in status
    assert box.up()["changed"] == ["kserve"]
    assert box.json("status")["state"] == "ready"


def test_an_image_that_the_bundle_lacks_is_said_before_anything_changes(box: Box, tmp_path: Path) -> None:
    small = tmp_path / "small.bundle"
    archive = BUNDLE.parent / "serving-images.tar"
    command = [sys.executable, "-m", "modelyard", "sandbox", "bundle", "create", str(small)]
    command += ["--from", str(archive), "--stand-ins", str(STAND_INS), "--manifests", str(MANIFESTS)]
    command += [part for name in _outside(archive) for part in ("--without-image", name)]
    command += [part for name in ("grafana", "cert-manager") for part in ("--without", name)]
    done = subprocess.run(
        command,
        env=box.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before = box.writes()
    result = box.up("--bundle", str(small), status=7)
    assert result["code"] == "bundle-missing-image"
    assert box.writes() == before
    assert box.up("--bundle", str(BUNDLE))["changed"] == []


def _outside(archive: Path) -> list[str]:
    """Upstream images whose stand-ins are not in the archive."""
    from modelyard_sandbox.archive import Archive
    from modelyard_sandbox.bundle_writing import read_stand_ins

    there = Archive(archive).images
    stand_ins = read_stand_ins(STAND_INS)
    return [name for name, stand_in in stand_ins.items() if stand_in not in there]


def test_a_damaged_bundle_is_said_with_what_is_wrong(box: Box, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bundle"
    with BUNDLE.open("rb") as source, damaged.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    with damaged.open("r+b") as file:
        file.seek(700_000_000)
        byte = file.read(1)
        file.seek(700_000_000)
        file.write(bytes([byte[0] ^ 1]))
    done = subprocess.run(
        [sys.executable, "-m", "modelyard", "sandbox", "bundle", "verify", str(damaged)],
        env=box.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7
    assert "SHA-256" in done.stderr
    assert "bundle-damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_out_of_disk_says_so(box: Box) -> None:
    """A small file system in the place of containerd's store: an image does not fit."""
    store = "/var/lib/containerd/io.containerd.content.v1.content"
    box.on_node("ctr", "-n", "k8s.io", "images", "rm", "modelyard.test/stack:0.1.0", "--sync")
    box.on_node("mount", "-t", "tmpfs", "-o", "size=1m", "none", store)
    box.on_node("mkdir", "-p", f"{store}/ingest", f"{store}/blobs/sha256")
    try:
        result = box.up(status=7)
        assert result["code"] == "node-disk-full", result
        assert "disk" in result["msg"]
    finally:
        box.on_node("umount", store)
    assert "images" in box.up()["changed"]
