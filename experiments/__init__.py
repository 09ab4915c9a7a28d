"""Programs that train models and show what they learned."""
