"""Settings: schema, value formats, loading and checking. Imports no other package of the relay."""
