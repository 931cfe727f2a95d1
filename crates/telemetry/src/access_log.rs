//! Access log: one JSON line per finished request, to stdout.
