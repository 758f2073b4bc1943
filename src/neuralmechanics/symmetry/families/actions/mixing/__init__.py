"""Actions that mix channels with one another by matrices."""
