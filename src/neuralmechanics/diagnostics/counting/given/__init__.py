"""What the reader of a count gives: charges to be verified, and parameters of their own."""
