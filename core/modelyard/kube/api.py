"""A cluster's API: get, find, server-side apply, create, delete, watch, logs, run a command in a pod.

The official `kubernetes` client does the transport and every kind of login that a kubeconfig can
name. Objects are the plain values of their YAML, so that any kind works, known to the client or not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from modelyard.errors import ConfigError, EnvironmentFault, NotFoundError

#: Who owns the fields that we apply.
FIELD_MANAGER = "modelyard"
_SECONDS = 30.0


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object: `namespace` is empty for those that live in none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where}"


def ref_of(manifest: Mapping[str, Any]) -> Ref:
    """The object that a manifest describes.

    Example:
        >>> str(ref_of({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}}))
        'Service s in n'
    """
    metadata = manifest["metadata"]
    return Ref(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])


class ApiFault(EnvironmentFault):
    """What the API server answered, other than success.

    Attributes:
        status: the HTTP status; 0: nobody answered.
        reason: Kubernetes' word for it, e.g. `NotFound`, `Conflict`, `Forbidden`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        details: Mapping[str, object] | None = None,
        status: int = 0,
        reason: str = "",
    ) -> None:
        super().__init__(code, message, hint, details=details)
        self.status = status
        self.reason = reason

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed in a moment: overload, a disk that is too slow for etcd, a
        webhook that starts, a kind that was just defined."""
        said = self.message
        webhook = "failed calling webhook" in said or "conversion webhook" in said
        starts = any(word in said for word in ("no endpoints available", "connection refused", "EOF"))
        starts = starts or "etcdserver: request timed out" in said or "etcdserver: leader changed" in said
        if self.status == 403:
            return "being terminated" in said  # a namespace of the same name is still going away
        return self.status in (0, 429, 503, 504) or (self.status == 500 and (webhook or starts))


class Cluster:
    """One cluster.

    Args:
        kubeconfig: the file; None: `$KUBECONFIG` or `~/.kube/config`.
        context: one of its contexts; None: the current one.

    Raises:
        ConfigError: `kubeconfig-invalid` or `context-unknown`, with the contexts that there are.
    """

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._client = _client(kubeconfig, context)
        self.kubeconfig, self.context = kubeconfig, context
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._client.configuration.host)

    # -- objects ----------------------------------------------------------------------------

    def get(self, ref: Ref) -> dict[str, Any] | None:
        """The object, or None."""
        try:
            return self.request("GET", self.path(ref))
        except ApiFault as fault:
            if fault.status == 404:
                return None
            raise

    def find(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        only_metadata: bool = False,
    ) -> list[dict[str, Any]]:
        """All objects of a kind (in one namespace, with labels), in pages."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": "500"}
        accept = "application/json"
        if only_metadata:
            accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        found: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", self._folder(api_version, kind, namespace), query, accept=accept)
            found += page.get("items") or []
            query["continue"] = page.get("metadata", {}).get("continue", "")
            if not query["continue"]:
                return found

    def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply under our own field manager; what others own is taken over where it is ours
        to say."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self.request(
            "PATCH",
            self.path(ref_of(manifest)),
            query | ({"dryRun": "All"} if dry_run else {}),
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create the object; with `dry_run` everything but the storing happens, webhooks included."""
        ref = ref_of(manifest)
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return self.request(
            "POST", self._folder(ref.api_version, ref.kind, ref.namespace), query, body=manifest
        )

    def patch(self, ref: Ref, change: Mapping[str, Any], *, part: str = "") -> dict[str, Any]:
        """A JSON merge patch; `part` is a subresource, e.g. `scale`."""
        path = self.path(ref) + (f"/{part}" if part else "")
        query = {"fieldManager": FIELD_MANAGER}
        return self.request("PATCH", path, query, body=change, content_type="application/merge-patch+json")

    def delete(self, ref: Ref) -> bool:
        """Delete the object and what it owns; False if it was not there."""
        try:
            self.request("DELETE", self.path(ref), {"propagationPolicy": "Background"})
        except ApiFault as fault:
            if fault.status == 404:
                return False
            raise
        return True

    def watch(
        self, api_version: str, kind: str, *, namespace: str = "", version: str, seconds: float = 60
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Changes after a resource version, as (`ADDED`, `MODIFIED`, `DELETED`; object).

        Raises:
            ApiFault: with status 410 when the version is too old: list again.
        """
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(int(seconds))}
        path = self._folder(api_version, kind, namespace)
        response = self._send("GET", path, query, timeout=(5, seconds + 5), stream=True)
        try:
            rest = b""
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not line.strip():
                        continue
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _fault(event["object"].get("code", 500), event["object"], "GET", path)
                    yield event["type"], event["object"]
        finally:
            response.close()

    # -- pods -------------------------------------------------------------------------------

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        lines: int = 100,
        previous: bool = False,
        times: bool = False,
        since: int = 0,
    ) -> list[str]:
        """The last lines of a container, oldest first; empty if it wrote none or never started. With `times`
        each begins with the moment at which it was written; `since` leaves out what is older, in seconds."""
        query = {"tailLines": str(lines), "container": container}
        query |= {"previous": "true" if previous else "", "timestamps": "true" if times else ""}
        query |= {"sinceSeconds": str(since) if since else ""}
        try:
            return self._text(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query).splitlines()
        except ApiFault as fault:
            if fault.status in (400, 404):
                return []
            raise

    def follow(self, namespace: str, pod: str, container: str) -> Iterator[str]:
        """Lines as a container writes them from now on, until it ends."""
        query = {"container": container, "follow": "true", "tailLines": "0"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        response = self._send("GET", path, query, accept="*/*", timeout=(5, None), stream=True)
        try:
            rest = b""
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        finally:
            response.close()

    def run(self, namespace: str, pod: str, command: list[str], *, container: str = "") -> str:
        """Run a command in a container; its output.

        Raises:
            EnvironmentFault: `command-failed`: it ended with another status than 0.
        """
        from kubernetes.client import CoreV1Api
        from kubernetes.stream import stream

        options = {"container": container} if container else {}
        process = stream(
            CoreV1Api(_fresh(self._client)).connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=command,
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            _preload_content=False,
            **options,
        )
        process.run_forever()
        status = process.returncode  # before what it said is read, which empties all channels
        said = process.read_all() or ""
        if status:
            raise EnvironmentFault("command-failed", f"{command[0]} in pod {pod}: {said.strip()[-500:]}")
        return str(said)

    def pod_behind(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        """A ready pod of a Service, and the container's port behind one of the Service's.

        Raises:
            NotFoundError: `service-without-pods`.
        """
        slices = self.find(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            namespace=namespace,
            labels=f"kubernetes.io/service-name={service}",
        )
        found = self.get(Ref("v1", "Service", namespace, service))
        wanted = [p for p in ((found or {}).get("spec", {}).get("ports") or []) if p["port"] == port]
        for piece in slices:
            ports = [
                p
                for p in piece.get("ports") or []
                if wanted and p.get("name", "") == wanted[0].get("name", "")
            ]
            for endpoint in piece.get("endpoints") or []:
                reference = endpoint.get("targetRef") or {}
                if ports and endpoint.get("conditions", {}).get("ready") and reference.get("kind") == "Pod":
                    return str(reference["name"]), int(ports[0]["port"])
        raise NotFoundError(
            "service-without-pods",
            f"no pod is ready behind port {port} of Service {service} in {namespace}",
            f"kubectl -n {namespace} get pods",
        )

    def connect(self, namespace: str, pod: str, port: int) -> Any:
        """A socket to a port of a pod, through the API server."""
        from kubernetes.client import CoreV1Api
        from kubernetes.stream import portforward

        core = CoreV1Api(_fresh(self._client))
        opened = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        return opened.socket(port)

    # -- the rest ---------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            return self._text("/readyz", {}, timeout=(3, 3)) == "ok"
        except ApiFault:
            return False

    def version(self) -> str:
        """Kubernetes' version, e.g. `v1.34.4`."""
        return str(self.request("GET", "/version")["gitVersion"])

    def may(self, verb: str, kind: str, group: str = "", *, namespace: str = "", part: str = "") -> bool:
        """Whether we have the right; `kind` is the plural, e.g. `pods`, `part` a subresource."""
        attributes = {
            "verb": verb, "resource": kind, "group": group, "namespace": namespace, "subresource": part,
        }  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {"name": ""},
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self.request("POST", path, body=review)["status"]["allowed"])

    def path(self, ref: Ref) -> str:
        """The object's URL path."""
        return f"{self._folder(ref.api_version, ref.kind, ref.namespace)}/{quote(ref.name, safe='')}"

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Any request to the API server that answers with JSON.

        Raises:
            ApiFault: `kube-…`, with the server's own sentence.
        """
        response = self._send(method, path, query, body=body, content_type=content_type, accept=accept)
        answer: dict[str, Any] = json.loads(response.data or b"{}")
        return answer

    def _text(
        self, path: str, query: Mapping[str, str], *, timeout: tuple[float, float] = (5, _SECONDS)
    ) -> str:
        data = self._send("GET", path, query, accept="*/*", timeout=timeout).data
        return bytes(data).decode(errors="replace")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: tuple[float, float | None] = (5, _SECONDS),
        stream: bool = False,
    ) -> Any:
        import urllib3.exceptions

        given = urlencode({key: value for key, value in (query or {}).items() if value})
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        pool = self._client.rest_client.pool_manager
        try:
            response = pool.request(
                method,
                self.address + path + (f"?{given}" if given else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
                preload_content=not stream,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as fault:
            raise ApiFault(
                "cluster-unreachable",
                f"the API server at {self.address} does not answer: {_plainly(fault)}",
                "check that the cluster runs, and the network to it",
            ) from None
        if response.status >= 400:
            raise _fault(response.status, _json(response.read() or response.data), method, path)
        return response

    def _folder(self, api_version: str, kind: str, namespace: str) -> str:
        plural, namespaced = self._resource(api_version, kind)
        base = _base(api_version)
        return f"{base}/namespaces/{namespace}/{plural}" if namespaced and namespace else f"{base}/{plural}"

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural name, and whether objects live in namespaces; asked once per API version."""
        with self._lock:
            known = self._kinds.get(api_version, {})
        if kind not in known:
            known = self._discovered(api_version)
            with self._lock:
                self._kinds[api_version] = known
        if kind not in known:
            raise NotFoundError(
                "kind-unknown",
                f"the cluster knows no {kind} in {api_version}",
                "install what defines it, or see `modelyard doctor`",
            )
        return known[kind]

    def _discovered(self, api_version: str) -> dict[str, tuple[str, bool]]:
        try:
            resources = self.request("GET", _base(api_version))["resources"]
        except ApiFault as fault:
            if fault.status == 404:
                return {}
            raise
        return {r["kind"]: (r["name"], r["namespaced"]) for r in resources if "/" not in r["name"]}


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _client(kubeconfig: Path | None, context: str | None) -> Any:
    from kubernetes import client, config

    loaded = client.Configuration()
    try:
        config.load_kube_config(
            str(kubeconfig) if kubeconfig else None, context=context, client_configuration=loaded
        )
    except config.ConfigException as fault:
        where = str(kubeconfig or "the kubeconfig")
        said = " ".join(str(fault).split())
        raise ConfigError(
            "kubeconfig-invalid", f"{where}: {said}", "name another with --kubeconfig or KUBECONFIG"
        ) from None
    loaded.retries = False
    loaded.connection_pool_maxsize = 32
    return client.ApiClient(loaded)


def _fresh(client: Any) -> Any:
    """A client of the same configuration: `stream` changes the one that it is given."""
    return type(client)(client.configuration)


def _json(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
        return said if isinstance(said, dict) else {"message": str(said)}
    except ValueError:
        return {"message": data[:300].decode(errors="replace")}


def _fault(status: int, said: Mapping[str, Any], method: str, path: str) -> ApiFault:
    reason = str(said.get("reason") or status)
    message = " ".join(str(said.get("message") or reason).split())[:1000]
    what = {"GET": "read", "PATCH": "change", "POST": "create", "DELETE": "delete"}.get(method, method)
    codes = {401: "kube-unauthorized", 403: "kube-forbidden", 404: "kube-not-found", 409: "kube-conflict"}
    hints = {401: "log in to the cluster again", 403: "ask the cluster's administrator for this right"}
    return ApiFault(
        codes.get(status, "kube-refused"),
        f"the cluster does not let us {what} {path}: {message}",
        hints.get(status, "modelyard doctor"),
        details={"status": status, "reason": reason},
        status=status,
        reason=reason,
    )


def _plainly(fault: BaseException) -> str:
    return " ".join(str(fault.__cause__ or fault).split())[:200]
