"""How the conformance kit says that a rule is not kept."""


class Broken(Exception):
    """A rule is not kept; says how."""
