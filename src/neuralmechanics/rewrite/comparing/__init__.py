"""Two checkpoints modulo all symmetries: aligned, told apart, explained."""
