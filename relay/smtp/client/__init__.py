"""The client's side of a session: connect, transaction, replies."""
