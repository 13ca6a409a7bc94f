"""Other projects' checkpoints: in and out."""
