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
from modelyard_kserve.local import environments, resources, signature
from modelyard_kserve.local.batching import Batching
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.limited import Limited
from modelyard_kserve.local.logged import LoggedApp
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import load


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, then serve until told to stop; one that can't be loaded is a line and status 3.

    Args:
        argv: the arguments; None: those of the process.
    """
    options = argparse.ArgumentParser(prog="model_server")
    for name in ("folder", "socket", "name", "version"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--alias", default="", help="another name of the model, which it answers to")
    options.add_argument("--digest", help="of the model's files when the revision was made")
    options.add_argument("--logging", type=Path, required=True, help="says which answers are logged")
    options.add_argument("--memory", type=int, default=0, help="bytes that it may have; 0: any number")
    options.add_argument("--gpus", type=int, default=0, help="how many it gets for itself")
    options.add_argument("--format", default="", help="what loads the model; default: its files say")
    options.add_argument("--trust-pickle", action="store_true")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds that an answer may take")
    options.add_argument("--concurrency", type=int, default=0, help="requests at once; 0: as many as come")
    options.add_argument("--batch-rows", type=int, default=0, help="in one call at most; 0: no gathering")
    options.add_argument("--batch-latency", type=int, default=0, help="milliseconds that a request waits")
    options.add_argument("--own-requirements", action="store_true", help="in an environment of its own")
    given = options.parse_args(argv)
    probabilities = os.environ.get("PREDICT_PROBA", "").lower() == "true"
    try:
        folder = Path(given.folder)
        require_same_files(folder, given.digest)
        if given.own_requirements:
            _go_on_in_its_environment(folder, given.trust_pickle, sys.argv[1:] if argv is None else argv)
        resources.take(given.memory, given.gpus)
        model = load(
            folder,
            model_format=given.format,
            trust_pickle=given.trust_pickle,
            probabilities=probabilities,
        )
        resources.require_room()
    except ModelyardError as fault:
        print(f"model server {os.getpid()}: {fault.message}", flush=True)
        return 3
    # A revision's processes share the file, and other revisions have another one.
    unloaded = given.logging.with_name(f"{given.name}.{(given.digest or given.version)[:12]}.unloaded")
    stated = signature.of(model, folder)
    batching = Batching(given.batch_rows, given.batch_latency / 1000) if given.batch_rows else None
    known = (given.name, given.version, model, probabilities, stated, unloaded, batching)
    app = ModelApp(*known, alias=given.alias)
    logged = LoggedApp(given.name, Limited(app, given.concurrency, given.timeout), given.logging)
    serving = HttpServer(logged, started=logged.started, stopped=logged.stopped)
    serving.run(given.socket, grace=given.timeout)
    return 0


def _go_on_in_its_environment(folder: Path, trusted: bool, argv: Sequence[str]) -> None:
    """Become the same process with other packages."""
    python = str(environments.python_of(folder, trusted=trusted))
    rest = [word for word in argv if word != "--own-requirements"]
    os.execv(python, [python, "-m", "modelyard_kserve.local.model_server", *rest])


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
