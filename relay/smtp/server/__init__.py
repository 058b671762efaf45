"""The server side of a session: bytes in, replies out. Policy decisions are requested through `handler`."""
