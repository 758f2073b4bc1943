"""What a kill, an error of the disk, a flipped bit, a second writer do to a run; `make torture` tries all of it."""
