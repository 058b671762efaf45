"""The durable queue: messages, their recipients, and their history.

Knows nothing of SMTP sessions, DNS or settings. `protocol.Queue` and `protocol.Admin` are its interfaces; open one with
`relay_queue.sqlite` or `relay_queue.memory`.
"""
