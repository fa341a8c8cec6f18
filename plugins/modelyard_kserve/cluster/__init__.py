"""InferenceServices on a cluster: applied to KServe, watched, explained; and what runs in their pods."""
