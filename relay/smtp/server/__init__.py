"""The server's side of a session: bytes in, replies out, policy asked through `handler`."""
