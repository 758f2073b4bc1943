"""The charts of a page as plain data: of a family, of layers, of the training."""
