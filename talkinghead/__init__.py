"""Lip-synced video of a person, learnt from one video of that person."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# PyTorch's OpenMP threads spin while they wait, in one pool for the forward and one for the backward pass. Beside the
# rasterizer's own threads that makes a fit on two cores ten times slower. Read when torch is loaded, so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
