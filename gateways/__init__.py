"""How it travels: ports, sessions, lines and whose turn it is."""
