"""Reading, checking and explaining `channels.yaml` and the routes it names."""
