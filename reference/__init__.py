"""The four families as plain functions over a state dict: dense scores, a transpose around every operation.

This is how the networks run without any of the fast paths of :mod:`frame_transformer.layers`, and nothing of it is
imported here. The tests compare the two, the benchmarks time one against the other.
"""

from .families import reference_forward

__all__ = ["reference_forward"]
