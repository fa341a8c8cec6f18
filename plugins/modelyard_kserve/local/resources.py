"""What `resources.limits` means for a process: threads, memory, and GPUs that nobody else has."""

from __future__ import annotations

import fcntl
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError
from modelyard.kube.quantities import quantity

GPU = "nvidia.com/gpu"
#: The limits that a process can keep.
KNOWN = ("cpu", "memory", GPU)
#: Seconds that nvidia-smi may take.
_SECONDS = 30.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Bytes for the thread that asks the model, and another one.
_ROOM = 16 << 20
#: What is asked for is rounded up to a multiple of it.
_STEP = 64 << 20
#: What Python says where a thread's stack is beyond the limit.
_NO_THREAD = "can't start new thread"
#: Locks of GPUs, held until the process ends.
_held: list[int] = []


def limits_of(container: Mapping[str, Any]) -> dict[str, float]:
    """The limits of a model or a container that a process can keep.

    Example:
        >>> limits_of({"resources": {"limits": {"cpu": "2", "memory": "1Gi", "x.org/fpga": 1}}})
        {'cpu': 2.0, 'memory': 1073741824.0}
    """
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: quantity(limits[name]) for name in KNOWN if name in limits}


def threads(limits: Mapping[str, float]) -> dict[str, str]:
    """How many threads libraries shall start: one for each processor of the limit; nothing to say: one.

    Example:
        >>> threads({"cpu": 1.5})["OMP_NUM_THREADS"], threads({"cpu": 1.0}), threads({})
        ('2', {}, {})
    """
    count = math.ceil(limits.get("cpu") or 1)
    return {name: str(count) for name in _THREADS} if count > 1 else {}


def take(memory: int, gpus: int) -> None:
    """Keep to the limits from now on, in this process.

    Args:
        memory: bytes of its own that it may have, on Linux; 0: any number. What it asks for beyond fails.
        gpus: how many it gets for itself; it sees no others.

    Raises:
        ConfigError: `model-unloadable`: there are not so many GPUs, or others have them; the process has more
            memory already.
    """
    if memory and sys.platform == "linux":
        # The address space, which RLIMIT_AS limits, is reserved by the gigabyte and never used.
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        given = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_DATA, (given, given))
        require_room()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_leased(gpus))


def require_room() -> None:
    """Refuse to serve what could not answer: each thread takes its stack out of the limit of memory, too.

    Raises:
        ConfigError: `model-unloadable`.
    """
    limit, has = _data_limit(), _data()
    if limit and has + _ROOM > limit:
        enough = math.ceil((has + 2 * _ROOM) / _STEP) * _STEP
        raise ConfigError(
            "model-unloadable",
            f"resources.limits.memory, {_mib(limit)}, does not suffice: the process has {_mib(has)} before "
            f"it answers anything; ask for {_mib(enough)} or more",
            "a larger limit, or none",
        )


def in_words(fault: BaseException) -> str:
    """An error of a model in one sentence; one that is about memory names the limit.

    Example:
        >>> in_words(ValueError("a b")), in_words(KeyError())
        ('ValueError: a b', 'KeyError')
    """
    said = " ".join(str(fault).split())[:300]
    if (isinstance(fault, MemoryError) or _NO_THREAD in said) and (limit := _data_limit()):
        said = f"resources.limits.memory, {_mib(limit)}, does not suffice"
    return ": ".join(filter(None, [type(fault).__name__, said]))


def _data_limit() -> int:
    """Bytes of its own that this process may have; 0: any number."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return 0 if limit == resource.RLIM_INFINITY or sys.platform != "linux" else limit


def _data() -> int:
    """Bytes that the limit counts: what the process may write to, whether it shares it still or not."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _mib(count: int) -> str:
    return f"{math.ceil(count / 2**20)} MiB"


def _leased(wanted: int) -> list[str]:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard" / "gpus"
    folder.mkdir(parents=True, exist_ok=True)
    there = list(_gpus())
    got: list[tuple[str, int]] = []
    for name in there:
        if len(got) == wanted:
            break
        lock = os.open(folder / f"{name.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it, however we end
        except BlockingIOError:
            os.close(lock)
        else:
            got.append((name, lock))
    if len(got) < wanted:
        for _, lock in got:
            os.close(lock)
        taken = len(there) - len(got)
        others = f", of which other models have {taken}" if taken else ""
        raise ConfigError(
            "model-unloadable",
            f"it asks for {wanted} of {GPU}; this machine has {len(there)}{others}",
            "ask for fewer, or end the other models",
        )
    _held.extend(lock for _, lock in got)
    return [name for name, _ in got]


def _gpus() -> Iterator[str]:
    """The GPUs that may be used here, by their unique names: those that `CUDA_VISIBLE_DEVICES` leaves, in its
    order, and parts of a GPU (MIG) instead of one that is cut up."""
    there = _listed()
    only = os.environ.get("CUDA_VISIBLE_DEVICES")
    if only is None:
        for gpu, parts in there:
            yield from parts or (gpu,)
        return
    for asked in only.split(","):
        found = _meant(asked.strip(), there)
        if found is None:
            return  # CUDA, too, sees nothing behind what is not there
        yield found


def _meant(asked: str, there: Sequence[tuple[str, Sequence[str]]]) -> str | None:
    """A device by its number, or by its unique name or how that begins."""
    if asked.isdigit():
        gpu, parts = there[int(asked)] if int(asked) < len(there) else ("", ())
        return (*parts, gpu)[0] or None
    if not asked.startswith(("GPU-", "MIG-")):
        return None
    names = [name for gpu, parts in there for name in (parts or (gpu,))]
    found = [name for name in names if name.startswith(asked)]
    return found[0] if len(found) == 1 else None


def _listed() -> list[tuple[str, list[str]]]:
    """Each GPU with its parts, as nvidia-smi tells them.

    Raises:
        ConfigError: `model-unloadable`: it does not answer.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        told = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        said = " ".join(str(fault).split())
        raise ConfigError(
            "model-unloadable",
            f"it asks for {GPU}, and nvidia-smi does not say what there is: {said}",
            "run nvidia-smi -L",
        ) from None
    found: list[tuple[str, list[str]]] = []
    for line in told.stdout.splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: (GPU-[\w-]+)\)", line):
            found.append((gpu[1], []))
        elif found and (part := re.match(r"\s+MIG .*\(UUID: (MIG-[\w/-]+)\)", line)):
            found[-1][1].append(part[1])
    return found
