"""Data sets that need no download: made from a seed, or shipped with scikit-learn."""
