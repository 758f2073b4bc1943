"""Counting at places that a group of relabelings of channels leaves as they are, where the Jacobian falls apart."""
