"""What the paper's figures share: panels, marks of laws, the axis of time, settings that tell runs apart."""
