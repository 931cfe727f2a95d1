//! Prometheus metric families.
