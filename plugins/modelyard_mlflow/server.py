"""`python -m modelyard_mlflow.server`: `mlflow server` in one process instead of two.

MLflow's command starts uvicorn beside itself and waits for its end, with everything that it imported: 190 MB,
an eighth of a small sandbox. Where there are no job runners to look after, it has nothing else to do; here it
becomes uvicorn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def main(argv: Sequence[str]) -> None:
    """Run MLflow's server with the arguments of `mlflow server`; does not return.

    Args:
        argv: the arguments, without the command's name.
    """
    from mlflow import cli, server
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    if not MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get():
        server._exec_cmd = _become  # type: ignore[attr-defined,unused-ignore]
    cli.cli(["server", *argv], prog_name="mlflow")


def _become(command: Sequence[Any], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """What MLflow would run as a child, in its place: signals and exit status are uvicorn's own."""
    argv = [str(word) for word in command]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], argv, {**os.environ, **extra_env})


if __name__ == "__main__":
    main(sys.argv[1:])
