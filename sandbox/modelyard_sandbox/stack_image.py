"""Our own image, built by the Docker engine of this machine from what is installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError
from modelyard.state import os_errors
from modelyard_sandbox.errors import ImageFault

_EXTRA = "stack"
#: pip's settings that a build needs, too; they never enter the image.
_PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


def base_image() -> str:
    """The base image whose Python is this one's: pickled models do not travel between versions.

    >>> base_image().endswith("-slim")
    True
    """
    return f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def context(folder: Path, *, ca: Path | None = None) -> None:
    """Write what the image is built from: the Dockerfile, what to install, and at which versions.

    The image gets the versions that are installed here. Installed from a checkout (`pip install -e`),
    modelyard is packed into a wheel; from an index, it is taken from there again.

    Args:
        folder: an empty one.
        ca: a PEM file of authorities that the image is to trust.

    Raises:
        MissingRequirementError: `hatchling-missing`: a checkout can't be packed; `source-missing`: the
            file that modelyard was installed from is gone.
        ImageFault: `wheel-failed`, with the reason.
        EnvironmentFault: the folder can't be written.
    """
    needed, ours = folder / "in" / "needed", folder / "in" / "ours"
    with os_errors(folder):
        needed.mkdir(parents=True)
        ours.mkdir()
        (folder / "Dockerfile").write_bytes(
            (files("modelyard_sandbox") / "image" / "Dockerfile").read_bytes()
        )
        (needed / "constraints.txt").write_text("".join(f"{line}\n" for line in constraints()))
        (needed / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements()))
        if ca is not None:
            shutil.copyfile(ca, needed / "modelyard-extra.crt")
    requirement = _ourselves(ours)
    with os_errors(folder):
        (ours / "requirements.txt").write_text(f"{requirement}\n")


def requirements() -> list[str]:
    """What the image needs besides ourselves, as we ask for it: it changes rarely, and so does its layer."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in importlib.metadata.requires("modelyard") or ()]
    there = {"extra": _EXTRA, "sys_platform": "linux"}  # whatever this machine is
    wanted = [one for one in asked if one.marker is None or one.marker.evaluate(there)]
    return sorted({f"{one.name}{_extras(one.extras)}{one.specifier}" for one in wanted})


def _extras(names: Iterable[str]) -> str:
    listed = ",".join(sorted(names))
    return f"[{listed}]" if listed else ""


def constraints() -> list[str]:
    """`name==version` of everything installed here that an index can give."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        if not name or not version or "+" in version:
            continue
        if name.lower() != "modelyard" and not _origin(distribution):
            found.setdefault(name.lower(), f"{name}=={version}")
    return [found[name] for name in sorted(found)]


def build(
    engine: Any,
    tag: str,
    *,
    base: str | None = None,
    ca: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Build the image with the Docker engine.

    Proxies and pip's index are taken from the environment.

    Args:
        engine: an `Engine`.
        tag: the image's name.
        base: the base image; None: `base_image()`.
        ca: a PEM file of authorities that the image is to trust.
        say: gets each step and what pip does.

    Returns:
        The image's id.

    Raises:
        ImageFault: `engine-disk-full`, or `image-build`, with the last lines; or as `context`.
    """
    import docker.errors

    with tempfile.TemporaryDirectory(prefix="modelyard-image-") as name:
        context(Path(name), ca=ca)
        lines: list[str] = []
        try:
            answers = engine.client.api.build(
                path=name,
                tag=tag,
                rm=True,
                forcerm=True,
                decode=True,
                buildargs=_build_arguments(base or base_image()),
            )
            for answer in answers:
                if "error" in answer:
                    raise _build_fault(str(answer["error"]), lines)
                for line in str(answer.get("stream") or answer.get("status") or "").splitlines():
                    if line.strip():
                        lines.append(line.strip())
                        say(lines[-1])
        except (docker.errors.APIError, docker.errors.DockerException, OSError) as fault:
            raise _build_fault(str(getattr(fault, "explanation", None) or fault), lines) from None
    return str(engine.client.images.get(tag).id)


def _build_arguments(base: str) -> dict[str, str]:
    arguments = {"BASE": base}
    for name in _PIP_SETTINGS:
        if value := os.environ.get(name):
            arguments[name] = value
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        value = os.environ.get(name) or os.environ.get(name.upper())
        if value:
            arguments[name] = arguments[name.upper()] = value
    return arguments


def _build_fault(said: str, lines: list[str]) -> ImageFault:
    told = " ".join(line for line in lines[-30:] if line.startswith(("ERROR", "error"))) or said
    everything = " ".join([*lines[-30:], said])
    if "no space left" in everything.lower():
        code, hint = "engine-disk-full", "free some space: docker system df, then docker builder prune"
    elif "x509" in everything or "CERTIFICATE_VERIFY_FAILED" in everything:
        code, hint = "image-build", "behind a proxy that opens TLS give its certificate: --ca-cert FILE"
    else:
        code, hint = "image-build", "run this again, or use a bundle: modelyard sandbox up --bundle FILE"
    return ImageFault(
        code,
        f"our image can't be built: {' '.join(told.split())[:400]}",
        hint,
        details={"evidence": lines[-15:]},
    )


def _ourselves(inside: Path) -> str:
    """What pip is to install; a wheel is put into the folder where there is one or one can be made."""
    distribution = importlib.metadata.distribution("modelyard")
    origin = _origin(distribution)
    if origin is None:
        return f"modelyard=={distribution.version}"
    if origin.is_dir():
        wheel = _pack(origin, inside)
    elif origin.is_file():
        with os_errors(origin):
            wheel = Path(shutil.copy(origin, inside))
    else:
        raise MissingRequirementError(
            "source-missing",
            f"modelyard was installed from {origin}, which is gone; its image is made from that",
            f"{sys.executable} -m pip install --force-reinstall --no-deps FILE, from where it stays",
        )
    return f"./{wheel.name}"


def _origin(distribution: importlib.metadata.Distribution) -> Path | None:
    """The folder or file that a distribution was installed from; None: an index."""
    text = distribution.read_text("direct_url.json")
    url = str(json.loads(text).get("url", "")) if text else ""
    parts = urllib.parse.urlsplit(url)
    return Path(urllib.request.url2pathname(parts.path)) if parts.scheme == "file" else None


def _pack(checkout: Path, out: Path) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        raise MissingRequirementError(
            "hatchling-missing",
            f"modelyard is installed from {checkout}, and the package that packs it is not installed",
            f"{sys.executable} -m pip install hatchling",
        )
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=checkout,
        env={**os.environ, "MODELYARD_LABEXT": "skip"},  # no JupyterLab in there
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(out.glob("modelyard-*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise ImageFault(
            "wheel-failed",
            f"{checkout} can't be packed into a wheel: {said[:300]}",
            f"cd '{checkout}' && {sys.executable} -m hatchling build -t wheel",
        )
    return wheels[0]
