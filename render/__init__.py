"""Gaussians, motion fields, rasterizers and fitting. The package itself loads nothing: import what you need."""
