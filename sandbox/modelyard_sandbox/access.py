"""What plain tools need to reach a sandbox: MLflow, DVC, boto3 and kubectl take it from the environment."""

from __future__ import annotations

from modelyard.errors import NotFoundError
from modelyard_sandbox.folder import SandboxFolder


def require(folder: SandboxFolder) -> None:
    """Raise where no sandbox of this name is.

    Raises:
        NotFoundError: `sandbox-absent`.
    """
    if not folder.exists:
        raise NotFoundError(
            "sandbox-absent",
            f"there is no sandbox '{folder.name}' on this machine",
            "make one: modelyard sandbox up",
        )


def environment(folder: SandboxFolder) -> dict[str, str]:
    """Environment variables with addresses and passwords of the sandbox's services.

    Raises:
        NotFoundError: `sandbox-absent`.
    """
    require(folder)
    ports, secrets = folder.state().get("ports") or {}, folder.secrets()
    found = {"KUBECONFIG": str(folder.kubeconfig)}
    if "mlflow" in ports and "mlflow-password" in secrets:
        found |= {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": secrets["mlflow-password"],
            # The server would send clients to S3 under its name inside the cluster, where they hang.
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        }
    if "s3" in ports and "s3-secret-key" in secrets:
        address = f"http://127.0.0.1:{ports['s3']}"
        found |= {
            "AWS_ACCESS_KEY_ID": "modelyard",
            "AWS_SECRET_ACCESS_KEY": secrets["s3-secret-key"],
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
            # Newer SDKs add checksums that other servers than Amazon's store as part of the file.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "MLFLOW_S3_ENDPOINT_URL": address,
        }
    if "monitor-token" in secrets:
        found["MODELYARD_MONITOR_TOKEN"] = secrets["monitor-token"]
    return found
