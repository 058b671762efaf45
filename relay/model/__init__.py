"""Records that several packages share. This package imports no other package of the relay."""
