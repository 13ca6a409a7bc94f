"""From a prompt to text, with any engine."""
