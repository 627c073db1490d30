"""Open security units: one file for each maker, found by being here. docs/security-units.md"""
