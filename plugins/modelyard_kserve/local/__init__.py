"""InferenceServices as processes on this machine, behind Envoy; `controller` keeps them."""
