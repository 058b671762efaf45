"""The sandbox: a real SMTP receiver built into the relay, so that mail can take the whole path and go nowhere."""
