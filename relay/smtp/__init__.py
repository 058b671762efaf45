"""The protocol, both sides. Knows nothing of the queue."""
