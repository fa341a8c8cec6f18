"""A sandbox as a target: its services answer on ports of this machine, so nothing has to be forwarded."""

from __future__ import annotations

from functools import partial

from modelyard.errors import NotFoundError
from modelyard.targets import Address, ServiceName, Target
from modelyard_sandbox.access import require
from modelyard_sandbox.folder import DEFAULT, SandboxFolder

#: Service -> its address inside, user, the secret with its password, where it keeps files.
_SERVICES: dict[ServiceName, tuple[str, str, str, str]] = {
    "mlflow": ("http://mlflow.modelyard.svc:5000", "admin", "mlflow-password", "s3://mlflow"),
    "s3": ("http://s3.modelyard.svc:7070", "modelyard", "s3-secret-key", "s3://dvc"),
    "monitor": ("http://monitor.modelyard.svc:8080", "", "monitor-token", ""),
    "gateway": ("http://kourier.kourier-system.svc", "", "", ""),
}
#: The component that a service is part of.
_COMPONENT = {"gateway": "knative"}


def connect(name: str) -> Target:
    """The sandbox of that name as a target.

    Raises:
        NotFoundError: `sandbox-absent`.
    """
    folder = SandboxFolder(name)
    require(folder)
    return Target(
        "sandbox" if name == DEFAULT else f"sandbox-{name}",
        kubeconfig=folder.kubeconfig,
        find=partial(_address, folder),
    )


def _address(folder: SandboxFolder, service: ServiceName) -> Address:
    state, secrets = folder.state(), folder.secrets()
    component = _COMPONENT.get(service, service)
    if component not in (state.get("components") or ()):
        raise NotFoundError(
            "target-service-unknown",
            f"the sandbox '{folder.name}' runs without {component}",
            f"modelyard sandbox up --with {component}",
        )
    inside, user, secret, storage = _SERVICES[service]
    return Address(
        url=f"http://127.0.0.1:{state['ports'][service]}",
        inside=inside,
        user=user,
        password=secrets.get(secret, ""),
        storage=storage,
    )
