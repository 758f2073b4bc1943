"""What is looked at beside the laws: whether symmetries hold, books balance, gradients are there."""
