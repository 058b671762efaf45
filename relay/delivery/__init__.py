"""Delivers mail from the queue to the next server: routes, lanes, outcomes."""
