"""Tasks: pure functions from a random key to an episode, with their losses and metrics."""
