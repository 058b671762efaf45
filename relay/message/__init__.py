"""Messages as bytes: header edits, DKIM signatures, delivery status notifications."""
