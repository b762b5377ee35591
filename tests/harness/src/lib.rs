//! Real PostgreSQL clusters and proxy processes for tests, the demo and the benchmark.
