"""Make the bundle that the tests boot from: our image out of this checkout, all others as they were built."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

from modelyard_sandbox import stack_image
from modelyard_sandbox.engine import Engine

ROOT = Path(__file__).parents[2]
STACK = "modelyard.test/stack:0.1.0"
NODE = "modelyard/node:v1.34.4"
OTHERS = (
    "modelyard.test/postgres:bookworm",
    "modelyard.test/prometheus:v3.5.0",
    "modelyard.test/versitygw:v1.8.0",
)
#: No package of theirs exists anywhere.
MISSING = ("grafana", "cert-manager")
_SOURCES = ("core", "plugins", "sandbox", "constraints.txt", "pyproject.toml", "tests/cluster/images")


def main() -> int:
    """Build what is not current."""
    cache, manifests = Path(sys.argv[1]), Path(sys.argv[2])
    began = time.monotonic()
    key = _key()
    bundle, mark = cache / "stack.bundle", cache / "stack.bundle.key"
    if bundle.exists() and mark.exists() and mark.read_text() == key:
        return 0
    engine = Engine()
    stack_image.build(engine, STACK, base="modelyard.test/python:3.11", say=lambda _: None)
    _say(f"our image, after {time.monotonic() - began:.0f} s")
    archives = [cache / "serving-images.tar", _saved(engine, cache / "node.tar", NODE)]
    archives += [_saved(engine, cache / "others.tar", *OTHERS), _saved(engine, cache / "stack.tar", STACK)]
    command = [sys.executable, "-m", "modelyard", "sandbox", "bundle", "create", str(bundle)]
    command += [part for archive in archives for part in ("--from", str(archive))]
    command += [
        "--stand-ins",
        str(ROOT / "tests/cluster/images/stand-ins.toml"),
        "--manifests",
        str(manifests),
    ]
    command += [part for name in MISSING for part in ("--without", name)]
    subprocess.run(command, check=True)
    mark.write_text(key)
    (cache / "stack.tar").unlink()
    _say(f"the bundle, {bundle.stat().st_size / 1e9:.1f} GB, after {time.monotonic() - began:.0f} s")
    return 0


def _key() -> str:
    """Changes with everything that goes into the bundle."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *_SOURCES],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    hashed = hashlib.sha256()
    for name in sorted(set(listed.stdout.decode().split("\0")) - {""}):
        if (ROOT / name).is_file():
            hashed.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return hashed.hexdigest()


def _saved(engine: Engine, file: Path, *names: str) -> Path:
    """The images as an archive, saved again only if one of them is another one now."""
    mark = file.with_suffix(".ids")
    ids = " ".join(str(engine.client.images.get(name).id) for name in names)
    if not (file.exists() and mark.exists() and mark.read_text() == ids):
        subprocess.run(["docker", "save", "-o", str(file), *names], check=True)
        mark.write_text(ids)
    return file


def _say(text: str) -> None:
    print(f"tests/cluster/prepare: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
