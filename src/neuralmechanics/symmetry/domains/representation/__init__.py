"""How each dimension of every tensor transforms when matrices act on whole spaces of channels."""
