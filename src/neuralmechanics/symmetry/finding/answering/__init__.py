"""What takes back shifts of weights, by walks over programs in which the weights are changed for it."""
