"""A second implementation of the Tombola protocol: a payer and a checker, written from proto-spec.md alone."""
