"""A model as a program: values, the primitives that make them, and the loop that interprets a program."""
