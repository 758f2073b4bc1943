"""The figures of the theory, which need no training."""
