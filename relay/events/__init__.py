"""Events: each one is recorded once, as a log line and as a line of the event store."""
