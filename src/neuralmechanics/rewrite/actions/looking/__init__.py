"""The model that is rewritten, as it is and as it will be: tensors, symmetries, gains, and what stops a symmetry."""
