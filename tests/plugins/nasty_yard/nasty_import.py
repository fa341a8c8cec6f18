"""Raises when it is imported."""

raise RuntimeError("the license server does not answer")
