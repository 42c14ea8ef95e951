"""What happens to a message: code tables, conditions, steps, message layouts and the routes made of them (pure)."""
