"""What takes long runs aside; the panel asks how far it is."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence

from modelyard.errors import ModelyardError, NotFoundError
from modelyard_jupyter.api import Job, Problem

#: Ended jobs that are still known.
_KEPT = 50


class Jobs:
    """The jobs of one worker; several threads may use it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, what: str, names: Sequence[str], work: Callable[[str], object]) -> Job:
        """Do the work for one name after the other, in a thread.

        Args:
            what: for people, e.g. `push`.
            names: what is worked through.
            work: does it for one name.
        """
        job = Job(id=uuid.uuid4().hex[:12], what=what, state="running", total=len(names))
        self._keep(job)
        threading.Thread(target=self._run, args=(job, names, work), daemon=True).start()
        return job

    def get(self, id: str) -> Job:
        """How far a job is.

        Raises:
            NotFoundError: `job-not-found`.
        """
        with self._lock:
            if id in self._jobs:
                return self._jobs[id]
        raise NotFoundError(
            "job-not-found", f"there is no job '{id}' (any more)", "look at the section again"
        )

    def _run(self, job: Job, names: Sequence[str], work: Callable[[str], object]) -> None:
        try:
            for done, name in enumerate(names):
                self._keep(job.model_copy(update={"doing": name, "done": done}))
                work(name)
        except ModelyardError as fault:
            problem = Problem(code=fault.code, message=fault.message, hint=fault.hint)
            self._keep(job.model_copy(update={"state": "failed", "problem": problem}))
        except Exception as fault:
            said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
            problem = Problem(code="unexpected", message=said)
            self._keep(job.model_copy(update={"state": "failed", "problem": problem}))
            raise
        else:
            self._keep(job.model_copy(update={"state": "finished", "done": len(names)}))

    def _keep(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.id] = job
            ended = [id for id, known in self._jobs.items() if known.state != "running"]
            for id in ended[:-_KEPT]:
                del self._jobs[id]
