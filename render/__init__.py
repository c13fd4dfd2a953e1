"""Gaussians, motion fields, rasterizers and fitting. Import the module you need: importing the package loads nothing."""
