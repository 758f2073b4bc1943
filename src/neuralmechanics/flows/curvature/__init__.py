"""The Hessian of a loss over named parameters: its largest eigenpairs, and what is left of it without symmetries."""
