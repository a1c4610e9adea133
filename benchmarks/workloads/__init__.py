"""The workloads: what is measured, and on whom."""
