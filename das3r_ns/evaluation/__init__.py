"""Metrics and protocols that judge cameras, masks and renders against ground truth."""
