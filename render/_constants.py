"""Every threshold of the rasterizer, in one place and the same for all back ends.

They are those of gsplat 1.5.3, rasterize mode "classic" (`gsplat/cuda/csrc/RasterizeToPixels3DGSFwd.cu` and
`ProjectionEWA3DGSFused.cu`), which follows "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (Kerbl et al.
2023). gsplat compiles the compositing thresholds in, so another release of it may mean another picture: the gsplat
back end accepts this release only.
"""

from __future__ import annotations

GSPLAT_VERSION = "1.5.3"

EPS2D = 0.3
"""Added to the diagonal of every projected covariance, px^2: a low-pass filter, lest a splat fall between pixels."""

NEAR_PLANE = 0.01
FAR_PLANE = 1e10
"""Gaussians whose camera-space depth is not between the two planes are skipped: the projection divides by it."""

FOV_MARGIN = 0.3
"""The projection is linearised at most this many half fields of view outside the image. Further out the linear
approximation of the perspective explodes, and a splat beside the camera would smear across the picture."""

ALPHA_MIN = 1.0 / 255.0
"""A splat is skipped at a pixel where its alpha is smaller: it could not change an 8-bit picture."""

ALPHA_MAX = 0.999
"""Alpha is clamped here, so that 1 - alpha, by which the gradient is divided, never vanishes. gsplat's main branch
clamps at 0.99."""

TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished *before* the splat that would bring its transmittance to this value or lower: the rest could
change no 8-bit picture."""
