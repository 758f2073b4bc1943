"""What a rewrite does to each tensor, as data: small operands that act along dimensions of named tensors."""
