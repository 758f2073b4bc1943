"""Trajectories: of flows by numerical integration, of stochastic flows by sampling, of the optimiser itself."""
