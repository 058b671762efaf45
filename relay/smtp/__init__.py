"""The SMTP protocol, client and server. Does not depend on the queue."""
