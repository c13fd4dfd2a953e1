"""Lip-synced video of a person, learnt from one video of that person."""

from __future__ import annotations

__version__ = "0.1.0"
