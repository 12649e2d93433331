"""
What is measured, one question per module.

A scenario gets a fresh server and gives figures; what they must be is in
`bench.bars`.
"""
