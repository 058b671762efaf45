"""Submission: everything between an accepted envelope and a queued message."""
