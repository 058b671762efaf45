"""What happened, told once: log line, event store."""
