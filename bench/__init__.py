"""Benchmarks of the relay against Postfix: `python -m bench`, or `make bench`. See docs/performance.md."""
