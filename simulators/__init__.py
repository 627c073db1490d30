"""The opponent: meters and gateways that share no code with ours."""
