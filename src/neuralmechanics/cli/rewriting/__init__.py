"""The commands that read and write checkpoints: rewritten, compared, aligned, mapped."""
