"""Training of the embedded speech encoder on synthetic speech with known phone timing."""

from __future__ import annotations
