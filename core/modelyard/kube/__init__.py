"""Kubernetes as Modelyard speaks to it: plain values in, plain values out, errors in a sentence."""

from modelyard.kube.api import ApiFault, Cluster, Ref, ref_of

__all__ = ["ApiFault", "Cluster", "Ref", "ref_of"]
