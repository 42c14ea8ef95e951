"""The console, the JSON interface, the metrics page and the health pages."""
