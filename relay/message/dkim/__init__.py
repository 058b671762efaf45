"""DKIM signatures (RFC 6376, RFC 8463): canonical forms, keys, signing. Verification of others' mail is not here."""
