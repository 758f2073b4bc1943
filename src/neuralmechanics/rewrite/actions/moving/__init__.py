"""Elements of groups as changes of tensors: factors, matrices, permutations."""
