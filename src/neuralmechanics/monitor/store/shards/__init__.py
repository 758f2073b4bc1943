"""A shard and the records in it: named arrays under checksums, in few bytes."""
