"""From token ids to a trained run directory."""
