"""The client side of an SMTP session: connecting, transactions, replies."""
