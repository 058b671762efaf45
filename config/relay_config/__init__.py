"""Settings: schema, words, loading and checking. Imports nothing of the relay's."""
