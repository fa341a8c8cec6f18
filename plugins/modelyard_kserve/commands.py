"""A component that is a container: its command, run as a process of the project without its image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_kserve.rules import MAIN_CONTAINER

#: What stands around a predictor.
COMPONENTS = ("transformer", "explainer")
#: Where KServe puts the model that `STORAGE_URI` in a container's environment names.
MOUNTED = "/mnt/models"
_PYTHON = re.compile(r"(.*/)?python(3(\.\d+)?)?")
#: Python's options without a value that mean the same inside a process that runs already.
_HARMLESS = re.compile(r"-[uBqsOEI]+")


@dataclass(frozen=True)
class PythonProgram:
    """`python -m NAME ARGS`, or `python NAME ARGS` with a file."""

    name: str
    is_module: bool
    arguments: tuple[str, ...]


def container_of(predictor: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """The container that answers, and its place; others are helpers."""
    containers = list(predictor.get("containers") or [])
    place = next((n for n, one in enumerate(containers) if one.get("name") == MAIN_CONTAINER), 0)
    return place, containers[place]


def command_of(container: Mapping[str, Any]) -> tuple[str, ...]:
    """What it runs: `command` and `args`; nothing if the image says it.

    Example:
        >>> command_of({"command": ["python", "-m", "ours"], "args": ["--model_name=late"]})
        ('python', '-m', 'ours', '--model_name=late')
    """
    command = container.get("command") or []
    return tuple(str(word) for word in (*command, *(container.get("args") or []))) if command else ()


def named_in(args: Sequence[str] | None, option: str = "model_name") -> tuple[str, bool]:
    """What an option of KServe's servers is given, and whether other options stand there.

    Example:
        >>> named_in(["--model_name", "iris"]), named_in(["--model_name=iris", "--workers=2"])
        (('iris', False), ('iris', True))
        >>> named_in(None)
        ('', False)
    """
    found, words, rest = "", [str(word) for word in args or ()], False
    while words:
        word, _, value = words.pop(0).partition("=")
        if word != f"--{option}":
            rest = True
        else:
            found = value or (words.pop(0) if words else "")
    return found, rest


def python_program(command: Sequence[str]) -> PythonProgram | None:
    """The Python program that a command runs; None: it is another program, or `python -c`.

    Example:
        >>> python_program(["python3", "-u", "-m", "ours", "--http_port=80"])
        PythonProgram(name='ours', is_module=True, arguments=('--http_port=80',))
        >>> python_program(["./serve.sh"])
    """
    words = list(command)
    if not words or not _PYTHON.fullmatch(words.pop(0)):
        return None
    while words and _HARMLESS.fullmatch(words[0]):
        words.pop(0)
    is_module = words[:1] == ["-m"]
    words = words[1:] if is_module else words
    if not words or words[0].startswith("-"):
        return None
    return PythonProgram(words[0], is_module, tuple(words[1:]))


def own_code(command: Sequence[str], root: Path) -> Path | None:
    """The file or the package of the project that a command runs; None: what runs is not the project's."""
    program = python_program(command)
    if program is not None and program.is_module:
        top = program.name.partition(".")[0]
        candidates = [root / top, root / f"{top}.py"]
    else:
        candidates = [root / (program.name if program is not None else command[0])]
    for code in candidates:
        inside = code.resolve().is_relative_to(root.resolve())
        if inside and (code.is_file() or (program is not None and program.is_module and code.is_dir())):
            return code
    return None


def with_values(command: Sequence[str], values: Mapping[str, str], model: str | None) -> list[str]:
    """The command with `$(NAME)` as Kubernetes replaces it, and the model's folder where KServe mounts it.

    Example:
        >>> with_values(["serve", "--port=$(PORT)", "$(HOME_OF)", "/mnt/models/a"], {"PORT": "80"}, "/m")
        ['serve', '--port=80', '$(HOME_OF)', '/m/a']
    """
    made = []
    for word in command:
        word = re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), word)
        made.append(word.replace(MOUNTED, model) if model else word)
    return made
