"""One way of writing what can be written in several: program to program, before all other passes."""
