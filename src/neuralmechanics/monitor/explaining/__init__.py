"""What a recorded training says of itself: what moved its charges, where they settle, what to change."""
