"""Checkpoints on disk rewritten: shards read and written one tensor at a time, published whole."""

from neuralmechanics.rewrite.files.checkpoint import Checkpoint, open_checkpoint
from neuralmechanics.rewrite.files.rewriting import FilesReport, rewrite_checkpoint

__all__ = ["Checkpoint", "FilesReport", "open_checkpoint", "rewrite_checkpoint"]
