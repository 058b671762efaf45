"""DKIM signatures (RFC 6376, RFC 8463): canonical forms, keys, signing. Signatures are not verified here."""
