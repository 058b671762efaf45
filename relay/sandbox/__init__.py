"""The sandbox: a real SMTP receiver built into the relay, so that mail takes the whole path but never leaves."""
