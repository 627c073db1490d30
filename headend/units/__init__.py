"""Security units: found, started, watched and examined. The contract is protocols/security_unit."""
