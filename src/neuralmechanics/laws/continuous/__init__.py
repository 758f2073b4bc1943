"""Laws in continuous time: a charge as a damped driven oscillator, or relaxing at one rate."""
