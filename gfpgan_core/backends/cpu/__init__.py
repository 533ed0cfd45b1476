"""Kernels and layers for the CPU."""
