"""What is integrated: a loss over named parameters, its derivatives, and the equation that a flow makes of it."""
