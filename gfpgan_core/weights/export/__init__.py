"""Weights written as other tools read them: one file a tool."""
