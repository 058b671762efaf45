"""From an accepted envelope to a queued message."""
