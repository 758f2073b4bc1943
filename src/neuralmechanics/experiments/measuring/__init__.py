"""What is measured of a network beside its charges: performance, norms, curvature."""
