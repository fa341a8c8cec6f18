"""What can go wrong in a sandbox, each kind with an exit status of its own, so that scripts can act on it.

| status | class | the sandbox |
|---|---|---|
| 1 | | is degraded: something of it does not work (`status`, `up`) |
| 3 | PreflightFailed | can't run on this machine as it is |
| 5 | EngineUnavailable | finds no Docker engine or no `kind` |
| 6 | ClusterFailed | got no cluster |
| 7 | ImageFault | could not pull, load or verify an image |
| 8 | ComponentFailed | has a component that does not start |
| 9 | NoProgress | waited, and nothing moved any more |
| 10 | SandboxLocked | is being changed by another command |
| 11 | Unsupported | has no images for this platform |
"""

from __future__ import annotations

from modelyard.errors import ModelyardError


class PreflightFailed(ModelyardError):
    """The machine lacks something; nothing was changed."""

    exit_status = 3


class EngineUnavailable(ModelyardError):
    """Docker or kind is missing or does not answer."""

    exit_status = 5


class ClusterFailed(ModelyardError):
    """kind could not make or start the node, or it is not ours."""

    exit_status = 6


class ImageFault(ModelyardError):
    """An image is missing, can't be had, or is not what the lock says."""

    exit_status = 7


class ComponentFailed(ModelyardError):
    """A component does not become ready; its last events and log lines are in the message."""

    exit_status = 8


class NoProgress(ModelyardError):
    """Nothing moved for longer than `--timeout`."""

    exit_status = 9


class SandboxLocked(ModelyardError):
    """Another command works on the same sandbox."""

    exit_status = 10


class Unsupported(ModelyardError):
    """No image exists for this machine's platform."""

    exit_status = 11
