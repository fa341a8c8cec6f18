"""An environment of its own for a model that needs other packages than the project's: made once by uv."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from modelyard.errors import ConfigError
from modelyard.state import locked
from modelyard_kserve.local.runtimes.base import unloadable, untrusted

_LIST = "requirements.txt"
#: A package with versions and markers; addresses, options and other files are not followed.
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(\[[\w\s,.-]*\])?\s*(?P<versions>([=<>~!]=?=?\s*[\w.*+!-]+\s*,?\s*)*)(;.*)?"
)
#: Seconds that another model server may take to make the same environment.
_PATIENCE = 1800.0


def python_of(folder: Path, *, trusted: bool) -> Path:
    """The Python with what the model's requirements.txt lists; made if it is not there.

    What they do not list is found in the project's packages, behind them.

    Args:
        folder: of the model.
        trusted: packages are code; which ones are run is not for everybody to say.

    Raises:
        ConfigError: `model-unloadable`: there is no list, it lists something else than packages, or uv can't
            make it, and why.
    """
    if not trusted:
        raise untrusted(folder, "its requirements name code to run")
    requirements = _listed(folder)
    behind = [path for path in sys.path if path.endswith("-packages")]
    seed = "\n".join([sys.version, *behind, *requirements])
    place = _cache() / hashlib.sha256(seed.encode()).hexdigest()[:24]
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        with locked(place.with_suffix(".lock"), timeout=_PATIENCE, doing="making a model's environment"):
            if not (place / "complete").exists():
                _make(folder, place, requirements, behind)
    return python


def differences(folder: Path) -> str:
    """Which packages the model was made with that are others here, in a few words; empty: none.

    Args:
        folder: of the model.
    """
    from importlib.metadata import PackageNotFoundError, version

    found = []
    with contextlib.suppress(ConfigError):
        for line in _listed(folder):
            said = _REQUIREMENT.fullmatch(line)
            pin = (said["versions"] if said else "").strip()
            if said is None or not pin.startswith("=="):
                continue
            wanted = pin.lstrip("= ")
            try:
                here = version(said["name"])
            except PackageNotFoundError:
                here = "none"
            if here.split(".")[:2] != wanted.split(".")[:2]:
                found.append(f"{said['name']} {wanted} (here: {here})")
    return ", ".join(found[:4])


def _listed(folder: Path) -> list[str]:
    file = folder / _LIST
    if not file.is_file():
        raise unloadable(folder, f"it has no {_LIST}, which would list its requirements")
    lines = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        if plain and not _REQUIREMENT.fullmatch(plain):
            # The line may hold a password.
            raise unloadable(folder, f"line {number} of its {_LIST} is no package with a version")
        lines += [plain] if plain else []
    return lines


def _make(folder: Path, place: Path, requirements: list[str], behind: list[str]) -> None:
    uv = shutil.which(
        "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if uv is None:
        raise unloadable(folder, "uv, which makes its own environment, is not installed: pip install uv")
    print(f"making an environment with {', '.join(requirements)} in {place}", flush=True)
    shutil.rmtree(place, ignore_errors=True)  # what was cut off in the middle
    place.parent.mkdir(parents=True, exist_ok=True)
    listed = place.with_suffix(".txt")
    listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    python = place / "bin" / "python"
    flags = ["--no-config", "--no-progress"]
    _run(folder, [uv, "venv", *flags, "--no-project", "--python", sys.executable, str(place)])
    # Wheels alone: building a package would run what its authors wrote.
    install = [uv, "pip", "install", *flags, "--only-binary", ":all:", "--python", str(python)]
    _run(folder, [*install, "--requirement", str(listed)])
    purelib = sysconfig.get_path("purelib", vars={"base": str(place)})
    folders = "; ".join(f"site.addsitedir({path!r})" for path in behind)
    Path(purelib, "behind.pth").write_text(f"import site; {folders}\n", encoding="utf-8")
    (place / "complete").touch()


def _run(folder: Path, command: list[str]) -> None:
    """Run uv; what it says is in the log, and its last words are the reason if it fails."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    words = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in _lines(process):
            print(line, flush=True)
            words.append(line)
    if process.returncode:
        said = " ".join(" ".join(words[-6:]).split())[-400:] or f"status {process.returncode}"
        raise unloadable(folder, f"uv can't make its own environment: {said}")


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip()


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "modelyard" / "environments"
