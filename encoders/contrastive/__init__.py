"""Speech encoders learned from what lips are seen to do: SE4Lip, PASE (Huang et al.), TalkLip (Wang et al. 2023)."""

from __future__ import annotations
