"""The monitor inside other people's training loops: one callback for each, loaded with its library alone.

`trainers.lightning.LightningMonitor`, `trainers.transformers.TransformersMonitor`. Accelerate needs none: give
`Monitor` the prepared model and optimiser, and the monitor to `Accelerator.register_for_checkpointing`.
"""
