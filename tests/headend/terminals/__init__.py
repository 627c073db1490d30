"""Recharge terminals over real sockets and a real database."""
