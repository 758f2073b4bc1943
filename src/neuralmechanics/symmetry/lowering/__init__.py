"""From torch to the program: captured graphs, and one rule for each ATen operation."""
