"""The compiled library: its sources, how work is written down for it, and the trial that it has to pass."""
