"""Who may connect, and where secrets are read from."""
