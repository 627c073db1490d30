"""The command line: `headend run`, `headend demo` and what a technician types."""
