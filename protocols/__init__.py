"""What is said: bytes and values. No I/O, no clock, no locks."""
