"""Every reader fed with broken files, guided by the lines of the package that they reach; `make fuzz` runs it."""
