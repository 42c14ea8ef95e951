"""The life of a message: intake, route, outbox, delivery."""
