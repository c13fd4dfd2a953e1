"""Synthetic training speech with phone timing, spoken by Debian's free synthesisers: espeak-ng, flite, festival."""
