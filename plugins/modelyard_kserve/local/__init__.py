"""InferenceServices as processes on this machine: a gateway per endpoint, a model server per model."""
