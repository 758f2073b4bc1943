"""A run as it is written and read back: shards, their chain, and the place that holds them."""
