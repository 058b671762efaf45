"""The running server: supervisor, workers, signals."""
