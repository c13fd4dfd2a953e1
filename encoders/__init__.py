"""Speech encoders: audio to speech features at video frame times, and speech features to lip motion."""

from __future__ import annotations
