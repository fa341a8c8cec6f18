"""The model server of one model: V1, V2 and gRPC on a Unix socket, started and ended by the controller.

python -m modelyard_kserve.local.model_server --folder MODEL --socket PATH --name NAME ...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.digests import model_digest
from modelyard.errors import ConfigError, ModelyardError
from modelyard_kserve.local import signature
from modelyard_kserve.local.asgi import application
from modelyard_kserve.local.loader import load
from modelyard_kserve.local.logged import LoggedApp
from modelyard_kserve.local.model_app import ModelApp


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, then serve until told to stop; one that can't be loaded is a line and status 3.

    Args:
        argv: the arguments; None: those of the process.
    """
    options = argparse.ArgumentParser(prog="model_server")
    for name in ("folder", "socket", "name", "version"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--digest", help="of the model's files when the revision was made")
    options.add_argument("--logging", type=Path, required=True, help="says which answers are logged")
    options.add_argument("--trust-pickle", action="store_true")
    given = options.parse_args(argv)
    probabilities = os.environ.get("PREDICT_PROBA", "").lower() == "true"
    try:
        folder = Path(given.folder)
        require_same_files(folder, given.digest)
        model = load(folder, trust_pickle=given.trust_pickle, probabilities=probabilities)
    except ModelyardError as fault:
        print(f"model server {os.getpid()}: {fault.message}", flush=True)
        return 3
    import uvicorn

    # A revision's processes share the file, and other revisions have another one.
    unloaded = given.logging.with_name(f"{given.name}.{(given.digest or given.version)[:12]}.unloaded")
    stated = signature.read(folder)
    app = ModelApp(given.name, given.version, model, probabilities, stated, unloaded)
    logged = LoggedApp(given.name, app, given.logging)
    uvicorn.run(
        application(logged, started=logged.started, stopped=logged.stopped),
        uds=given.socket,
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_keep_alive=3600,
        timeout_graceful_shutdown=5,
    )
    return 0


def require_same_files(folder: Path, digest: str | None) -> None:
    """A revision is one model for ever: started again, it must not answer with another one."""
    if not folder.exists():
        raise ConfigError("model-unloadable", f"{folder} is gone", "apply the file again")
    if digest and model_digest(folder) != digest:
        raise ConfigError(
            "model-unloadable",
            f"the files in {folder} are not those that the revision was made of",
            "apply the file again",
        )


if __name__ == "__main__":
    sys.exit(main())
