"""Rules of operations that make one number of many along dimensions, and of what is built on them."""
