"""Sample paths of stochastic flows, one by one or many at once."""
