//! Support for the integration tests: where the binary and the vectors are.
