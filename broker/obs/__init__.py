"""What is seen from outside: metrics, log and the figures of the console."""
