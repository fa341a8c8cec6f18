"""KServe's InferenceGraph as a process: which steps are asked, with what, and what comes of it."""
