"""From null spaces to named families."""
