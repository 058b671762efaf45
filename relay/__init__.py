"""relay: a self-hosted SMTP relay.

The server, its protocol code and its CLI. The durable queue is `relay_queue`, the settings are `relay_config`;
this package imports both, and neither imports it.
"""

__version__ = "0.1.0"
