"""The durable queue: messages, their recipients, and what became of them.

Knows nothing of SMTP sessions, DNS or settings. `protocol.Queue` and `protocol.Admin` are its faces; open one with
`relay_queue.sqlite` or `relay_queue.memory`.
"""
