"""Speech encoders learned from what lips are seen to do: SE4Lip and PASE (Huang et al. 2025)."""

from __future__ import annotations
