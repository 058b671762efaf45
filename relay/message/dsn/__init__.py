"""Delivery status notifications (RFC 3464, RFC 3461, RFC 6522, RFC 6533): who gets one, and its content."""

from relay.message.dsn.build import DsnFactory, build
from relay.message.dsn.wanted import Kind, wanted

__all__ = ["DsnFactory", "Kind", "build", "wanted"]
