"""Where a run goes from here: norms, rotation, half-lives, as the laws have them from what was measured."""
