"""Files of KServe that are looked at, and what `endpoints lint` says to them."""

from __future__ import annotations

from modelyard.records import Finding
from modelyard_kserve.lint import Mode, lint

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: late-flights
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://models/late-flights
"""
#: The line on which what `with_predictor` adds comes to stand.
LINE = 10


def with_predictor(line: str) -> str:
    return f"{SERVICE}    {line}\n"


def instead_of_model(lines: str) -> str:
    return SERVICE.partition("    model:")[0] + lines


def found(text: str, mode: Mode = "Knative") -> list[Finding]:
    return lint(text, "dienst.yaml", lambda _: mode)


def told(text: str, mode: Mode = "Knative") -> list[tuple[str, int, str]]:
    return [(one.level, one.line, f"{one.field}: {one.message}") for one in found(text, mode)]


def only(text: str, mode: Mode = "Knative") -> tuple[str, int, str]:
    (one,) = told(text, mode)
    return one


GRAPH = """\
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: by-breed}
spec:
  nodes:
    root:
      routerType: Sequence
      steps:
      - {serviceName: cat-or-dog, name: first}
      - {nodeName: breeds, name: second, data: $request, condition: "[@this].#(predictions.0==1)"}
    breeds:
      routerType: Splitter
      steps:
      - {serviceName: a, weight: 60}
      - {serviceName: b, weight: 40}
"""
