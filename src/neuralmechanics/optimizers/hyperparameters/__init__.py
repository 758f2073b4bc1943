"""The hyperparameters of an optimiser: as a file states them, and as `param_groups` hold them at a step."""
