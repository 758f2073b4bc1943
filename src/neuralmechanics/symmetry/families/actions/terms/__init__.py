"""What actions are made of: coefficients on slices, channels of parameters, gains."""
