"""Every rule held against torch, by numbers and by null spaces, with every option of its operation."""
