"""Who writes to whom in the benchmarks."""

SENDER = "sender@example.com"
RECIPIENT = "recipient@example.org"
