"""Make every system call of an operation fail in turn, and report what leaks.

operation -> points -> faults -> outcomes -> findings: see docs/explanation/how-check-works.md.
"""
