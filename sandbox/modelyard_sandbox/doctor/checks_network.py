"""Proxies, certificates, registries, addresses and names."""

from __future__ import annotations

import os
import ssl
import urllib.request
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from modelyard.console import size
from modelyard.kube.explain import waits_for
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Answer, check, error, ok, warning
from modelyard_sandbox.doctor.machine import docker_folder, without_login
from modelyard_sandbox.folder import cache_folder

#: What a proxy must be kept from.
_OURS = "127.0.0.1,localhost,.localhost,.svc,.cluster.local,10.96.0.0/16,10.244.0.0/16"
_INSIDE = {"pods": IPv4Network("10.244.0.0/16"), "services": IPv4Network("10.96.0.0/16")}
_HUB = "https://index.docker.io/v1/"
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@check("no-proxy", "proxy", before_up=True)
def no_proxy(facts: Facts) -> Answer:
    """A proxy between us and our own machine answers instead of the cluster."""
    proxies = {name: url for name, url in facts.machine.proxies.items() if name != "no"}
    if not proxies:
        return ok("none in the environment")
    said = ", ".join(f"{name.upper()}_PROXY={url}" for name, url in proxies.items())
    kept_out = facts.machine.proxies.get("no", "")
    if not urllib.request.proxy_bypass("127.0.0.1"):
        together = f"{kept_out},{_OURS}".lstrip(",")
        evidence = f"{said}, and NO_PROXY ({kept_out or 'empty'}) does not hold 127.0.0.1"
        fix = f"export NO_PROXY={together} no_proxy={together}"
        # The API server is asked by https; without it only MLflow and S3 clients are led astray.
        asked = {"https", "all"} & proxies.keys()
        return error(evidence, fix, refuses=True) if asked else warning(evidence, fix)
    local = [url for url in proxies.values() if _host(url) in ("127.0.0.1", "localhost", "::1")]
    if local:
        return warning(
            f"{said}; containers can't reach a proxy on {_host(local[0])}",
            "have it listen on Docker's bridge (172.17.0.1), or use a bundle: up --bundle FILE",
        )
    return ok(f"{said}; NO_PROXY={kept_out}")


@check("docker-proxy", "Docker's proxy", before_up=True)
def docker_proxy(facts: Facts) -> Answer:
    """Set for the shell, but not for Docker; or the other way round."""
    ours = facts.machine.proxies.get("https", "")
    defaults = (facts.machine.docker_config.get("proxies") or {}).get("default") or {}
    theirs = {
        f"{docker_folder() / 'config.json'}": without_login(str(defaults.get("httpsProxy") or "")),
        "docker info": without_login(str(facts.docker.info.get("HttpsProxy") or "")),
    }
    said = ", ".join(f"{where}: {url or 'none'}" for where, url in {"shell": ours, **theirs}.items())
    if ours and not any(theirs.values()):
        return warning(
            f"{said}: docker build and docker pull go past the proxy",
            f"set proxies.default.httpsProxy in {docker_folder() / 'config.json'}, and the engine's proxy",
        )
    if any(theirs.values()) and not ours:
        return warning(f"{said}: downloads of ours go past the proxy", "export HTTPS_PROXY=…, and NO_PROXY")
    return ok(said)


@check("ca", "authorities to trust", before_up=True)
def ca(facts: Facts) -> Answer:
    """Proxies that open TLS sign with an authority of their own."""
    named = {name: Path(os.environ[name]) for name in _CA_VARIABLES if os.environ.get(name)}
    for name, file in named.items():
        if not _holds_certificates(file):
            return error(f"{name}={file}, which holds no certificates", f"correct it, or: unset {name}")
    if facts.sandbox.last_code == "untrusted-certificate":
        said = facts.sandbox.last_run[-1].get("msg", "")
        return error(f"the last run: {said}", "modelyard sandbox up --ca-cert FILE (the proxy's, as PEM)")
    if named and "SSL_CERT_FILE" not in named:
        name, file = next(iter(named.items()))
        return warning(
            f"{name}={file} is not what downloads of images go by", f"modelyard sandbox up --ca-cert {file}"
        )
    return ok(", ".join(f"{name}={file}" for name, file in named.items()) or "those of the system")


@check("docker-hub", "Docker Hub's limit")
def docker_hub(facts: Facts) -> Answer:
    """It gives an address so many images an hour, and then none."""
    if facts.sandbox.last_code == "rate-limited":
        return error(
            f"the last run: {facts.sandbox.last_run[-1].get('msg', '')}",
            "docker login, or up --mirror docker.io=HOST, or a bundle: modelyard sandbox up --bundle FILE",
        )
    logins = facts.machine.docker_config.get("auths") or {}
    return ok(f"never met; {'logged in' if _HUB in logins else 'not logged in'} to docker.io")


@check("registry-mirrors", "mirrors in the node")
def registry_mirrors(facts: Facts) -> Answer:
    """containerd does not start with mirrors in the old and in the new form."""
    text = facts.docker.in_node("cat", "/etc/containerd/config.toml")
    if "registry.mirrors" in text or "registry.configs" in text:
        both = "together with config_path" if "config_path" in text else "in a form that containerd 2 dropped"
        return error(
            f"/etc/containerd/config.toml of the node sets registry.mirrors {both}",
            "make the node anew (data stays): modelyard sandbox down, then up; give mirrors with up --mirror",
        )
    return ok("/etc/containerd/config.toml of the node has none")


@check("routes", "addresses", before_up=True)
def routes(facts: Facts) -> Answer:
    """A VPN or company network that uses the same addresses takes the cluster's packets."""
    inside = dict(_INSIDE)
    bridge = ""
    try:
        inside |= {f"kind's network {network}": network for network in facts.docker.networks}
        options = facts.docker.network.get("Options") or {}
        bridge = options.get("com.docker.network.bridge.name") or f"br-{facts.docker.network['Id'][:12]}"
    except Absent:  # it is made with the first cluster, with addresses that are free then
        pass
    for interface, network in facts.machine.routes():
        for what, ours in inside.items():
            if interface != bridge and network.overlaps(ours):
                return warning(
                    f"/proc/net/route: {network} goes to {interface}, and {what} are in {ours}",
                    "leave the VPN while the sandbox runs; or, with no cluster of kind left: "
                    "docker network rm kind, and docker network create --subnet 172.30.0.0/16 kind",
                )
    return ok(f"/proc/net/route: nobody else has {', '.join(str(network) for network in inside.values())}")


@check("cluster-dns", "names in the cluster")
def cluster_dns(facts: Facts) -> Answer:
    """CoreDNS ends itself when it finds that it asks itself."""
    pods = [
        pod
        for pod in facts.cluster.pods
        if (pod["metadata"].get("labels") or {}).get("k8s-app") == "kube-dns"
    ]
    if not pods:
        return error(
            "there is no pod of CoreDNS in kube-system", "modelyard sandbox down, then up (data stays)"
        )
    waiting = {pod["metadata"]["name"]: said for pod in pods if (said := waits_for(pod))}
    if not waiting:
        return ok(f"{len(pods)} of CoreDNS ready")
    for name in waiting:
        lines = facts.cluster.api.logs("kube-system", name, previous=True)
        if any("Loop" in line and "detected" in line for line in lines):
            return error(
                f"{name} found that it asks itself",
                "the machine's /etc/resolv.conf names a resolver on 127.0.0.x: give Docker another, "
                '"dns" in /etc/docker/daemon.json',
            )
    return error(
        "; ".join(f"{name} waits for {said}" for name, said in waiting.items()), "modelyard sandbox up"
    )


@check("downloads", "downloads")
def downloads(facts: Facts) -> Answer:
    """A slow network is no fault; what was fetched is kept."""
    parts = list((cache_folder() / "images").rglob("*.part"))
    begun = (
        f"{len(parts)} downloads are not complete ({size(sum(_size(part) for part in parts))} of them here)"
    )
    if facts.sandbox.last_code in ("no-progress", "registry-unreachable", "manifest-unreachable"):
        said = facts.sandbox.last_run[-1].get("msg", "")
        return warning(
            f"the last run: {said}" + (f"; {begun}" if parts else ""),
            "modelyard sandbox up goes on where it stopped; --timeout 1200 waits longer, --bundle FILE needs "
            "no network",
        )
    if parts:
        return warning(begun, "modelyard sandbox up goes on where it stopped")
    return ok(f"none is incomplete in {cache_folder() / 'images'}")


def _host(url: str) -> str:
    return urlsplit(url if "://" in url else f"//{url}").hostname or ""


def _holds_certificates(file: Path) -> bool:
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError):
        return False
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # it was just completed
        return 0


CHECKS = (
    no_proxy,
    docker_proxy,
    ca,
    docker_hub,
    registry_mirrors,
    routes,
    cluster_dns,
    downloads,
)
