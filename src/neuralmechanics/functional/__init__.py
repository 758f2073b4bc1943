"""The loss as a pure function of named parameters, and its derivatives."""
