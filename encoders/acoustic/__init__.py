"""The acoustic features that SE4Lip (Huang et al. 2025, Table 3) is compared with, behind `SpeechEmbedding`."""

from __future__ import annotations
